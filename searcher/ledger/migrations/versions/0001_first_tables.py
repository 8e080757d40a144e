"""Studies, launches, epochs and checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "searcher_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("objective", sa.String(50), nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("spec_text", sa.Text, nullable=False),
        sa.Column("identity", sa.JSON, nullable=False),
        sa.Column("data_fingerprint", sa.String(64), nullable=False),
        sa.Column("data_source", sa.Text, nullable=False),
        sa.Column("storage_root", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "searcher_launches",
        sa.Column("id", sa.Integer, primary_key=True),
        _study_id(index=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Double, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("renewed_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("outcome", sa.String(20)),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("git_revision", sa.String(64)),
    )
    op.create_table(
        "searcher_epochs",
        sa.Column("id", sa.Integer, primary_key=True),
        _study_id(),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("recorded_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("study_id", "trial", "epoch"),
    )
    op.create_table(
        "searcher_checkpoints",
        sa.Column("id", sa.Integer, primary_key=True),
        _study_id(),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("recorded_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("study_id", "trial", "kind"),
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in ("searcher_checkpoints", "searcher_epochs", "searcher_launches", "searcher_studies"):
        op.drop_table(table)


def _study_id(*, index: bool = False) -> sa.Column[int]:
    return sa.Column(
        "study_id", sa.Integer, sa.ForeignKey("searcher_studies.id"), nullable=False, index=index
    )
