"""What the database says, as plain values: no SQLAlchemy or Optuna object leaves the ledger's readers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from searcher.study.objectives import Direction
from searcher.study.space import Value
from searcher.times import utc_text

__all__ = [
    "CheckpointRecord",
    "EvaluationRecord",
    "ExportRecord",
    "LaunchRecord",
    "ResultRecord",
    "StudyRecord",
    "TrialRecord",
]


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """The record of a checkpoint that a trial has written."""

    kind: str
    """`last`, `previous` (the last before it) or `best`."""
    epoch: int
    uri: str
    """Path relative to the storage root."""
    sha256: str
    num_bytes: int
    value: float | None
    """The objective at that epoch."""
    problem: str | None = None
    """The fault of the file, None for none."""
    is_removed: bool = False
    """Whether the file was given up to make room."""


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One trial: its number, state, parameters and values."""

    number: int
    state: str
    """Optuna's state: WAITING, RUNNING, COMPLETE, PRUNED or FAIL."""
    params: Mapping[str, Value]
    value: float | None
    """The objective: its best epoch for a complete trial, its last for a pruned one."""
    values: tuple[float, ...]
    """All objectives of a COMPLETE trial, where the study has several; else that one, or none."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord(ResultRecord):
    """One trial with everything known about it: epochs, notes, checkpoints and times."""

    epochs: Mapping[int, Mapping[str, float]]
    """All metrics by epoch, counted from 1."""
    notes: Mapping[str, Any]
    """What the driver wrote down: `best_epoch`, `stop_reason`, `fail_reason`, `retry_of`, `config_digest`, `node`."""
    checkpoints: Mapping[str, CheckpointRecord] = field(default_factory=dict)
    """The newest checkpoint of each kind."""
    started_at: datetime | None = None
    """In UTC, with its zone; so is the end."""
    ended_at: datetime | None = None

    @property
    def num_epochs(self) -> int:
        """Number of reported epochs."""
        return max(self.epochs, default=0)

    @property
    def duration_s(self) -> float | None:
        """Time from start to end in seconds; None while the trial runs."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        record = {
            each.name: getattr(self, each.name) for each in fields(self)
        }  # `asdict` would copy every epoch
        record["checkpoints"] = {kind: asdict(each) for kind, each in self.checkpoints.items()}
        record["started_at"] = utc_text(self.started_at)
        record["ended_at"] = utc_text(self.ended_at)
        return record | {"num_epochs": self.num_epochs, "duration_s": self.duration_s}


@dataclass(frozen=True, kw_only=True)
class LaunchRecord:
    """One launch of a study: its process, times and outcome."""

    host: str
    pid: int
    started_at: datetime
    renewed_at: datetime
    ended_at: datetime | None
    outcome: str | None
    """`finished`, `interrupted`, `failed`, `lost` or, by `doctor --fix`, `mended`; None while it runs."""
    job: str | None = None
    """Submission id of the Ray job that its driver is."""
    reason: str | None = None
    """Why it ended before the study's budget was used; None where nothing is known."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        times = {"started_at": self.started_at, "renewed_at": self.renewed_at, "ended_at": self.ended_at}
        return asdict(self) | {name: utc_text(time) for name, time in times.items()}


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study in the database, and how far it is."""

    name: str
    objective: str
    secondary_objectives: tuple[str, ...]
    """Its further objectives."""
    directions: tuple[Direction, ...]
    """Of its objectives, the main one first."""
    budget: int
    data_source: str
    data_fingerprint: str
    storage_root: str
    spec_text: str
    created_at: datetime
    counts: Mapping[str, int]
    """Number of trials by state."""
    last_launch: LaunchRecord | None
    num_continued: int = 0
    """Number of finished trials that continued another one to more epochs; they do not count towards the budget."""
    num_going_on: int = 0
    """Number of such trials that wait or run."""

    @property
    def num_trials(self) -> int:
        """Number of trials in any state."""
        return sum(self.counts.values())

    @property
    def num_done(self) -> int:
        """Number of trials that count for the budget."""
        return self.counts.get("COMPLETE", 0) + self.counts.get("PRUNED", 0) - self.num_continued

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        record = asdict(self) | {"created_at": utc_text(self.created_at), "num_done": self.num_done}
        record["last_launch"] = self.last_launch.to_dict() if self.last_launch else None
        return record


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """A trial whose network was exported to a bundle."""

    trial: int
    epoch: int
    checkpoint_sha256: str
    path: str
    """The bundle's folder, absolute, when it was written."""
    sha256: str
    """Of its `bundle.json`, which holds those of its other files."""
    created_at: datetime | None = None
    """None: not written down yet."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"created_at": utc_text(self.created_at)}


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """The metrics of a trial's checkpoint on one split of a data set."""

    trial: int
    checkpoint_sha256: str
    data_source: str
    data_fingerprint: str
    split: str
    metrics: Mapping[str, Any]
    """`pooled`, `mean`, `num_images`, and `trials`: all that predicted together."""
    created_at: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"created_at": utc_text(self.created_at)}
