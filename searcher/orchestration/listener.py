"""The messages of a launch to its observers."""

from collections.abc import Mapping
from typing import Protocol

from searcher.study.space import Value
from searcher.training.alive import Doing

__all__ = ["StudyListener"]


class StudyListener(Protocol):
    """Receives a study's progress from the driver's thread, after it is in the database."""

    def study_opened(self, *, budget: int, num_done: int, best: float | None, spent_s: float) -> None:
        """The study is ready; `num_done` trials of its budget were done by earlier launches, in `spent_s` seconds."""

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """A trial was handed to a worker; it begins after `first_epoch` epochs of an interrupted one."""

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """A trial has finished an epoch with this value of the objective."""

    def trial_does(self, number: int, doing: Doing) -> None:
        """What a running trial does; heard every few seconds, unless `resources.hang_timeout_s` is 0."""

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """A trial became COMPLETE, PRUNED or FAIL."""

    def info(self, text: str) -> None:
        """Something a person should know."""
