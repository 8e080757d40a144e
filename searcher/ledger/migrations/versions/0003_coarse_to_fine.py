"""Which of the parent's trials a study came from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("searcher_studies", sa.Column("parent_trials", sa.JSON))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("searcher_studies") as batch:
        batch.drop_column("parent_trials")
