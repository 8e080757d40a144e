"""Why a launch ended, and how many GPUs each of its trials had."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("searcher_launches", sa.Column("reason", sa.Text))
    op.add_column("searcher_launches", sa.Column("gpus", sa.Double))


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("searcher_launches") as batch:
        batch.drop_column("reason")
        batch.drop_column("gpus")
