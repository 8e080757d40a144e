"""Lineage, stop requests, damaged and removed checkpoints; exports and evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW_COLUMNS = {
    "searcher_studies": (
        ("spec_source", sa.Text),
        ("overrides", sa.JSON),
        ("parent_study", sa.String(100)),
        ("parent_trial", sa.Integer),
        ("parent_sha256", sa.String(64)),
    ),
    "searcher_launches": (("process_space", sa.String(200)), ("stop_requested_at", sa.DateTime)),
    "searcher_checkpoints": (("problem", sa.Text), ("removed_at", sa.DateTime)),
}


def upgrade() -> None:
    """Add columns, all of them nullable, and tables."""
    for table, columns in _NEW_COLUMNS.items():
        for name, type_ in columns:
            op.add_column(table, sa.Column(name, type_))
    op.create_table(
        "searcher_exports",
        sa.Column("id", sa.Integer, primary_key=True),
        _study_id(),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("checkpoint_sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "searcher_evaluations",
        sa.Column("id", sa.Integer, primary_key=True),
        _study_id(),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("checkpoint_sha256", sa.String(64), nullable=False),
        sa.Column("data_source", sa.Text, nullable=False),
        sa.Column("data_fingerprint", sa.String(64), nullable=False),
        sa.Column("split", sa.String(50), nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    """Remove what was added."""
    op.drop_table("searcher_evaluations")
    op.drop_table("searcher_exports")
    for table, columns in _NEW_COLUMNS.items():
        with op.batch_alter_table(table) as batch:
            for name, _ in columns:
                batch.drop_column(name)


def _study_id() -> sa.Column[int]:
    return sa.Column("study_id", sa.Integer, sa.ForeignKey("searcher_studies.id"), nullable=False, index=True)
