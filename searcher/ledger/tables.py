"""Our tables, which share the database with Optuna's own."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Base",
    "CheckpointRow",
    "EpochRow",
    "EvaluationRow",
    "ExportRow",
    "LaunchRow",
    "StudyRow",
    "utc_now",
]


def utc_now() -> datetime:
    """Return the present moment in UTC without a zone, the form that SQLite and PostgreSQL both store."""
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
    """A study: its file, identity, data, and the study that it is derived from."""

    __tablename__ = "searcher_studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(100), unique=True)
    objective: Mapped[str] = mapped_column(sa.String(50))
    budget: Mapped[int]
    spec_text: Mapped[str] = mapped_column(sa.Text)
    spec_source: Mapped[str | None] = mapped_column(sa.Text)
    """What `--study` said: a shipped study's name, or the absolute path of a file. None: from before 0002."""
    overrides: Mapped[dict[str, Any] | None]
    """What the command line set, by dotted key. None: from before 0002."""
    identity: Mapped[dict[str, Any]]
    data_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    data_source: Mapped[str] = mapped_column(sa.Text)
    storage_root: Mapped[str] = mapped_column(sa.Text)
    parent_study: Mapped[str | None] = mapped_column(sa.String(100))
    """Name of the study that this one refines, reranks or fine-tunes; by name, so that it outlives a deleted parent."""
    parent_trial: Mapped[int | None]
    """The parent's trial whose checkpoint this study's trials start from."""
    parent_trials: Mapped[list[int] | None] = mapped_column(sa.JSON)
    """The parent's trials that decided what this study searches or trains again, the best first."""
    parent_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    """Digest of the parent's checkpoint that this study's trials start from; kept from being collected."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class LaunchRow(Base):
    """One launch of a study. The row without an end is the lease on the study."""

    __tablename__ = "searcher_launches"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"), index=True)
    host: Mapped[str] = mapped_column(sa.String(255))
    pid: Mapped[int]
    process_started: Mapped[float] = mapped_column(sa.Double)
    """Seconds: since the epoch where `process_space` is None, else as `liveness` measures them."""
    process_space: Mapped[str | None] = mapped_column(sa.String(200))
    """Where `pid` means this process: boot and process namespace. None: from before 0002."""
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    renewed_at: Mapped[datetime] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(sa.String(20))
    stop_requested_at: Mapped[datetime | None]
    """When `searcher stop` asked the driver to end."""
    job: Mapped[str | None] = mapped_column(sa.String(200))
    """Submission id of the Ray job that the driver is. None: a process that somebody started."""
    versions: Mapped[dict[str, Any]]
    """Versions by package, and what else is known of the launch: see `reason` and `gpus`."""
    git_revision: Mapped[str | None] = mapped_column(sa.String(64))

    @property
    def reason(self) -> str | None:
        """Why it ended before the study's budget was used: what failed, the hours, a small gain. None for no reason."""
        return self.versions.get("reason")

    @property
    def gpus(self) -> float | None:
        """GPUs of each of its trials; None where an earlier version launched it, or no trial began."""
        return self.versions.get("gpus")


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
    """The newest checkpoint of each kind that a trial has written: `last`, `previous` or `best`."""

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
    problem: Mapped[str | None] = mapped_column(sa.Text)
    """What was found wrong with the file: missing, or other bytes than `sha256` says."""
    removed_at: Mapped[datetime | None]
    """When it was given up to make room; written before the file goes."""


class ExportRow(Base):
    """A bundle made from a checkpoint."""

    __tablename__ = "searcher_exports"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"), index=True)
    trial: Mapped[int]
    epoch: Mapped[int]
    checkpoint_sha256: Mapped[str] = mapped_column(sa.String(64))
    path: Mapped[str] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    """Of the bundle's `bundle.json`, which holds those of its other files."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class EvaluationRow(Base):
    """The metrics of a trial's checkpoint on one split of a data set."""

    __tablename__ = "searcher_evaluations"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("searcher_studies.id"), index=True)
    trial: Mapped[int]
    checkpoint_sha256: Mapped[str] = mapped_column(sa.String(64))
    data_source: Mapped[str] = mapped_column(sa.Text)
    data_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    split: Mapped[str] = mapped_column(sa.String(50))
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
