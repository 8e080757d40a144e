"""The messages of a launch to its observers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from searcher.study.space import Value
from searcher.training.alive import Doing

__all__ = ["StudyListener"]


class StudyListener(Protocol):
    """Receives the progress of a study in the driver's thread, after it is in the database."""

    def study_opened(
        self,
        *,
        budget: int,
        num_done: int,
        best: float | None,
        spent_s: float,
        earlier: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Called when the study is ready.

        Args:
            budget: Number of trials that the study runs, over all launches.
            num_done: Number of trials that earlier launches did.
            best: Best value of the objective so far; None without a COMPLETE trial.
            spent_s: Total duration of the earlier launches, in seconds.
            earlier: Epochs and seconds of each trial that they trained from its first epoch to its end.
        """

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """Called when a trial was sent to a worker. A retry may resume after `first_epoch` epochs of another trial.

        Args:
            number: Number of the trial.
            params: Parameters of the trial, by dotted key.
            first_epoch: Number of epochs taken over from the interrupted trial; 0 if the trial starts from the
                beginning.
            num_epochs: Number of epochs at the trial's end, if nothing stops it.
        """

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """Called when a trial has finished an epoch.

        Args:
            number: Number of the trial.
            epoch: Number of the epoch, from 1.
            value: Value of the objective after the epoch.
        """

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Called every few seconds with a running trial's present action, unless `resources.hang_timeout_s` is 0.

        Args:
            number: Number of the trial.
            doing: The action, such as training or validation.
            epoch: Number of the newest epoch that the worker has measured; 0 before the first. It may not be in the
                database yet, because a trial is tuned before its last epoch is reported.
            value: Value of the objective after that epoch; None before the first.
        """

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """Called when a trial became COMPLETE, PRUNED or FAIL.

        Args:
            number: Number of the trial.
            state: `COMPLETE`, `PRUNED` or `FAIL`.
            value: Value of the objective; None if the trial has none.
            reason: Why the trial ended, for the user; None if there is no reason.
        """

    def info(self, text: str) -> None:
        """Called with a message for the user."""
