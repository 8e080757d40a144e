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
    """Receives when trials start, finish epochs and end, and says how long the rest takes.

    All times are seconds of one clock. An epoch takes as long as the mean one so far, with the trial's start and its
    end counted in. A trial that has not begun takes as many epochs as the others on average. One that runs, or
    begins next in a free place, counts as if it ran to its last epoch: pruning shortens the forecast.
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
        """Trials that have started and not ended."""
        return len(self._running)

    def started(self, number: int, *, first_epoch: int, num_epochs: int, now: float) -> None:
        """Note that a trial began, after `first_epoch` of its `num_epochs` epochs.

        Args:
            number: Of the trial.
            first_epoch: Epochs that it has from before.
            num_epochs: Epochs that it has at its end.
            now: Seconds of a clock that does not run backwards.
        """
        self._running[number] = _Running(now, num_epochs, first_epoch, now)
        self._places = max(self._places, len(self._running))
        self._most_epochs = max(self._most_epochs, num_epochs)

    def epoch_done(self, number: int, epoch: int, now: float) -> None:
        """Note that a trial finished an epoch, counted from 1.

        Args:
            number: Of the trial.
            epoch: Of the epoch, from 1.
            now: As for `started`.
        """
        trial = self._running.get(number)
        if trial is None or epoch <= trial.epoch:
            return
        self._busy_s += now - trial.last
        self._num_epochs += epoch - trial.epoch
        trial.epoch, trial.last = epoch, now

    def ended(self, number: int, now: float, *, is_done: bool) -> None:
        """Note that a trial ended; one that is not done is tried again and says nothing about the others.

        Args:
            number: Of the trial.
            now: As for `started`.
            is_done: Whether the trial counts for the budget.
        """
        trial = self._running.pop(number, None)
        if trial is not None and is_done:
            self._busy_s += now - trial.last
            self._ended.append(trial.epoch)

    def left_s(self, num_to_do: int, now: float) -> float | None:
        """Return the seconds until the budget is used up; None before the first epoch.

        Args:
            num_to_do: Trials of the budget that are not done, those that run among them.
            now: The time.
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
