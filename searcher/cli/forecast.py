"""How long a launch will still take, from what its epochs took."""

from dataclasses import dataclass

__all__ = ["Forecast"]


@dataclass
class _Running:
    started: float
    num_epochs: int
    epoch: int
    last: float


class Forecast:
    """Estimates how long the rest of a launch takes, from the times of its trials so far.

    All times are seconds of one clock. An epoch is expected to take the mean time so far, with the trials' starts and
    ends included. A waiting trial is expected to have the average number of epochs. A running trial, or one that starts
    next in a free place, is expected to run to its last epoch, so pruning shortens the estimate.
    """

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._places = 0
        self._busy_s = 0.0
        self._num_epochs = 0
        self._most_epochs = 0
        self._ended: list[int] = []

    @property
    def num_running(self) -> int:
        """Number of trials that have started and not ended."""
        return len(self._running)

    def started(self, number: int, *, first_epoch: int, num_epochs: int, now: float) -> None:
        """Record that a trial has started, after `first_epoch` of its `num_epochs` epochs.

        Args:
            number: Number of the trial.
            first_epoch: Number of epochs that an interrupted trial did before; 0 for a new one.
            num_epochs: Number of epochs at the trial's end.
            now: The time in seconds, of a clock that does not run backwards.
        """
        self._running[number] = _Running(now, num_epochs, first_epoch, now)
        self._places = max(self._places, len(self._running))
        self._most_epochs = max(self._most_epochs, num_epochs)

    def epoch_done(self, number: int, epoch: int, now: float) -> None:
        """Record that a trial has finished an epoch.

        Args:
            number: Number of the trial.
            epoch: Number of the epoch, from 1.
            now: The time in seconds.
        """
        trial = self._running.get(number)
        if trial is None or epoch <= trial.epoch:
            return
        self._busy_s += now - trial.last
        self._num_epochs += epoch - trial.epoch
        trial.epoch, trial.last = epoch, now

    def ended(self, number: int, now: float, *, is_done: bool) -> None:
        """Record that a trial has ended. A trial that is to be retried does not affect the estimate for others.

        Args:
            number: Number of the trial.
            now: The time in seconds.
            is_done: Whether the trial counts for the budget.
        """
        trial = self._running.pop(number, None)
        if trial is not None and is_done:
            self._busy_s += now - trial.last
            self._ended.append(trial.epoch)

    def left_s(self, num_to_do: int, now: float) -> float | None:
        """Return the estimated time until the budget is used, in seconds; None before the first epoch.

        Args:
            num_to_do: Number of trials of the budget that are not done, including those that run.
            now: The time in seconds.
        """
        if not self._num_epochs:
            return None
        epoch_s = self._busy_s / self._num_epochs
        of_running = [
            max(0.0, (trial.num_epochs - trial.epoch) * epoch_s - (now - trial.last))
            for trial in self._running.values()
        ]
        waiting = max(0, num_to_do - len(self._running))
        at_once = min(waiting, self._places - len(self._running))
        mean = (sum(self._ended) + self._places * self._most_epochs) / (len(self._ended) + self._places)
        to_begin_s = (at_once * self._most_epochs + (waiting - at_once) * mean) * epoch_s
        return max([(sum(of_running) + to_begin_s) / self._places, *of_running])
