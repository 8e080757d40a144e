"""Which Ray job a launch's driver is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("searcher_launches", sa.Column("job", sa.String(200)))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("searcher_launches") as batch:
        batch.drop_column("job")
