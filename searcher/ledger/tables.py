"""Our tables, beside Optuna's own in the same database."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "CheckpointRow", "EpochRow", "LaunchRow", "StudyRow", "utc_now"]


def utc_now() -> datetime:
    """Return the present moment in UTC, without a zone: what both databases store alike."""
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    """Base of our tables. Their names begin with `searcher_`, to stay apart from Optuna's."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: sa.JSON, datetime: sa.DateTime()}  # noqa: RUF012


class StudyRow(Base):
    """What a study is: its file, its identity, its data."""

    __tablename__ = "searcher_studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(100), unique=True)
    objective: Mapped[str] = mapped_column(sa.String(50))
    budget: Mapped[int]
    spec_text: Mapped[str] = mapped_column(sa.Text)
    identity: Mapped[dict[str, Any]]
    data_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    data_source: Mapped[str] = mapped_column(sa.Text)
    storage_root: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class LaunchRow(Base):
    """One driver's run of a study. The row without an end is the lease on the study."""

    __tablename__ = "searcher_launches"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"), index=True)
    host: Mapped[str] = mapped_column(sa.String(255))
    pid: Mapped[int]
    process_started: Mapped[float] = mapped_column(sa.Double)
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    renewed_at: Mapped[datetime] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(sa.String(20))
    versions: Mapped[dict[str, Any]]
    git_revision: Mapped[str | None] = mapped_column(sa.String(64))


class EpochRow(Base):
    """Every metric of one epoch of one trial; Optuna's own table holds the objective alone."""

    __tablename__ = "searcher_epochs"
    __table_args__ = (sa.UniqueConstraint("study_id", "trial", "epoch"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"))
    trial: Mapped[int]
    epoch: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = mapped_column(default=utc_now)


class CheckpointRow(Base):
    """The newest checkpoint of each kind that a trial has written."""

    __tablename__ = "searcher_checkpoints"
    __table_args__ = (sa.UniqueConstraint("study_id", "trial", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"))
    trial: Mapped[int]
    kind: Mapped[str] = mapped_column(sa.String(10))
    epoch: Mapped[int]
    uri: Mapped[str] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    num_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    value: Mapped[float | None] = mapped_column(sa.Double)
    recorded_at: Mapped[datetime] = mapped_column(default=utc_now)
