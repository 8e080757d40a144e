"""The messages of a launch to its observers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from searcher.study.space import Value
from searcher.training.alive import Doing

__all__ = ["StudyListener"]


class StudyListener(Protocol):
    """Receives a study's progress from the driver's thread, after it is in the database."""

    def study_opened(
        self,
        *,
        budget: int,
        num_done: int,
        best: float | None,
        spent_s: float,
        earlier: Sequence[tuple[int, float]] = (),
    ) -> None:
        """The study is ready; `num_done` trials of its budget were done by earlier launches.

        Args:
            budget: Trials that the study runs, over all launches.
            num_done: Of these, how many earlier launches did.
            best: The best value of the objective so far; None without a COMPLETE trial.
            spent_s: Seconds that the earlier launches took together.
            earlier: Epochs and seconds of each trial that they trained from its first epoch to its end.
        """

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """A trial was handed to a worker. A retry may go on after `first_epoch` epochs of the interrupted trial.

        Args:
            number: Of the trial.
            params: Its parameters by dotted key.
            first_epoch: Epochs that it has from an interrupted trial, 0 if it trains from the start.
            num_epochs: Epochs that it has at its end if nothing stops it.
        """

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """A trial has finished an epoch with this value of the objective.

        Args:
            number: Of the trial.
            epoch: From 1.
            value: The objective after this epoch.
        """

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """What a running trial does; heard every few seconds, unless `resources.hang_timeout_s` is 0.

        Args:
            number: Of the trial.
            doing: The kind of what it does.
            epoch: The newest epoch that its worker has measured; 0 before the first. It may not be in the database
                yet: a trial is tuned before its last epoch is handed over.
            value: The objective after that epoch; None before the first.
        """

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """A trial became COMPLETE, PRUNED or FAIL.

        Args:
            number: Of the trial.
            state: `COMPLETE`, `PRUNED` or `FAIL`.
            value: The objective; None where the trial has none.
            reason: Why it ended, for people; None for no reason.
        """

    def info(self, text: str) -> None:
        """Something a person should know."""
