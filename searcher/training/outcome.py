"""How a trial ended. Plain values, which travel from a worker to the driver; imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Outcome", "StopReason"]

StopReason = Literal["epochs", "plateau", "reporter"]
"""Why a trial is over: all epochs trained, no improvement, or the reporter's wish; the first that holds."""


@dataclass(frozen=True)
class Outcome:
    """The result of a trial that ended regularly: why, its best epoch and value, its tuning and pictures."""

    stop_reason: StopReason
    epoch: int
    """Epochs trained."""
    best_epoch: int
    """Epoch of the best objective, counted from 1; 0 if it never had a value."""
    best_value: float
    """The best objective; its worst possible value if it never had one."""
    last_metrics: Mapping[str, float]
    """Metrics of the last epoch."""
    tuned: Mapping[str, Any] | None = None
    """`Tuned.to_dict()`: how the best checkpoint's output is best cut into instances, if that was to be tuned."""
    tuning_problem: str | None = None
    """Why that could not be found out; the best checkpoint is as it was trained."""
    pictures: tuple[str, ...] = ()
    """Files in the run's folder: the worst validation images of the best checkpoint, and the learning curve."""
    pictures_problem: str | None = None
    """Why there are none, though they were wanted."""
