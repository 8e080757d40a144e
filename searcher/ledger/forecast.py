"""How long a study will still take, from what its epochs took."""

from dataclasses import dataclass

__all__ = ["Forecast"]


@dataclass
class _Running:
    started: float
    num_epochs: int
    epoch: int
    last: float
    has_begun: bool = False


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
        self._earlier_s = 0.0
        self._num_earlier = 0
        self._spent_s = 0.0

    @property
    def num_running(self) -> int:
        """Number of trials that have started and not ended."""
        return len(self._running)

    @property
    def epoch_s(self) -> float | None:
        """Mean duration of an epoch in seconds; None before the first.

        Epochs of earlier launches, maybe on another machine, count only until this launch has as many epochs as a whole
        trial.
        """
        seconds, count = self._busy_s, self._num_epochs
        if count < max(1, self._most_epochs):
            seconds, count = seconds + self._earlier_s, count + self._num_earlier
        return seconds / count if count else None

    @property
    def ended_epochs(self) -> float | None:
        """Mean number of epochs of the trials that have ended; None before the first."""
        return sum(self._ended) / len(self._ended) if self._ended else None

    def earlier(self, num_epochs: int, took_s: float) -> None:
        """Record a trial that an earlier launch trained from its first epoch.

        Args:
            num_epochs: Number of epochs at the trial's end.
            took_s: Seconds from its start to its end.
        """
        if num_epochs:
            self._earlier_s += took_s
            self._num_earlier += num_epochs
            self._ended.append(num_epochs)

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

    def begun(self, number: int, now: float) -> None:
        """Record that a trial's worker has begun to work.

        The time for which the trial waited for a free place before is then not part of the trial's time.

        Args:
            number: Number of the trial.
            now: The time in seconds.
        """
        trial = self._running.get(number)
        if trial is not None and not trial.has_begun:
            trial.has_begun = True
            if trial.last == trial.started:  # no epoch yet
                trial.started = trial.last = now

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
        if trial is None:
            return
        self._spent_s += now - trial.started
        if is_done:
            self._busy_s += now - trial.last
            self._ended.append(trial.epoch)

    def left_s(self, num_to_do: int, now: float) -> float | None:
        """Return the estimated time until the budget is used, in seconds; None before the first epoch.

        Args:
            num_to_do: Number of trials of the budget that are not done, including those that run.
            now: The time in seconds.
        """
        epoch_s = self.epoch_s
        if epoch_s is None or not self._places:
            return None
        of_running = [
            max(0.0, (trial.num_epochs - trial.epoch) * epoch_s - (now - trial.last))
            for trial in self._running.values()
        ]
        waiting = max(0, num_to_do - len(self._running))
        at_once = min(waiting, self._places - len(self._running))
        to_begin_s = (at_once * self._most_epochs + (waiting - at_once) * self._expected_epochs(0)) * epoch_s
        return max([(sum(of_running) + to_begin_s) / self._places, *of_running])

    def trial_s(self, num_epochs: int) -> float | None:
        """Return the expected duration of a trial in seconds; None before the first epoch.

        It is the mean over the trials that have ended, stopped ones included, and one full-length trial for each place.

        Args:
            num_epochs: Number of epochs of a trial that is not stopped.
        """
        self._most_epochs = max(self._most_epochs, num_epochs)
        return None if self.epoch_s is None else self._expected_epochs(0) * self.epoch_s

    def running_left_s(self, now: float) -> list[float]:
        """Return the expected remaining seconds of each running trial; 0 for one that has taken longer than expected.

        Args:
            now: The time in seconds.
        """
        epoch_s = self.epoch_s or 0.0
        return [
            max(
                0.0,
                (self._expected_epochs(each.epoch, each.num_epochs) - each.epoch) * epoch_s
                - (now - each.last),
            )
            for each in self._running.values()
        ]

    def num_within(self, given_s: float, now: float) -> int:
        """Return how many trials are expected to end within some seconds, those that run now included.

        Args:
            given_s: The seconds.
            now: The time in seconds.
        """
        trial_s = self.trial_s(self._most_epochs)
        if not trial_s:
            return self.num_running
        free_s = given_s * self._places - sum(self.running_left_s(now))
        return self.num_running + max(0, int(free_s / trial_s))

    def spent_s(self, now: float) -> float:
        """Return the sum of the seconds that all trials have run; the time of free places does not count.

        Args:
            now: The time in seconds.
        """
        return self._spent_s + sum(now - each.started for each in self._running.values())

    def _expected_epochs(self, after: int, most: int | None = None) -> float:
        """Return the epochs that a trial has at its end, as the mean of those that came past `after` epochs."""
        whole, places = most or self._most_epochs, max(1, self._places)
        longer = [each for each in self._ended if each > after]
        return (sum(longer) + places * whole) / (len(longer) + places)
