"""What the terminal shows during a launch: a live table, or single lines where there is no terminal."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from searcher.cli.terminal import console, metric, seconds
from searcher.cli.trial_lines import TrialLine, packed, trial_lines
from searcher.ledger.forecast import Forecast
from searcher.orchestration.driver import LaunchResult
from searcher.storage.object_store import below
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.training.alive import Doing

__all__ = ["LaunchView"]

_STATES: Mapping[Doing, str] = {
    "beginning": "STARTING",
    "data": "STARTING",
    "building": "STARTING",
    "epoch": "TRAINING",
    "step": "TRAINING",
    "files": "TRAINING",
    "validation": "VALIDATING",
    "tuning": "TUNING",
    "pictures": "TUNING",
}
_QUEUED = "QUEUED"
"""Handed to Ray, but no worker has begun with it."""
_LEAST_LINES = 4
"""Of the trials, on a terminal that is lower than what is to be shown."""


@dataclass
class _Trial:
    params: Mapping[str, Value]
    num_epochs: int
    epoch: int
    state: str
    value: float | None = None
    started: float = field(default_factory=lambda: time.monotonic())
    ended: float | None = None


class LaunchView:
    """A `StudyListener` that shows a launch in the terminal. Use it as a context manager around the launch."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._trials: dict[int, _Trial] = {}
        self._budget = spec.study.trials
        self._num_done = 0
        self._done_before = 0
        self._best: tuple[float, int | None] | None = None
        self._started, self._spent_s = time.monotonic(), 0.0
        self._forecast = Forecast()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._live.stop()

    # ---- StudyListener ---------------------------------------------------------------------------------

    def study_opened(
        self,
        *,
        budget: int,
        num_done: int,
        best: float | None,
        spent_s: float,
        earlier: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Show how many trials of the study are done; see `StudyListener.study_opened`."""
        self._budget, self._num_done, self._done_before = budget, num_done, num_done
        self._started, self._spent_s = time.monotonic(), spent_s
        self._best = None if best is None else (best, None)
        for num_epochs, took_s in earlier:
            self._forecast.earlier(num_epochs, took_s)
        objective = self._spec.objective
        self._line(
            f"{self._spec.name}: {num_done} of {budget} trials done, {objective.direction} {objective.name}"
        )

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """Add a row for the trial; see `StudyListener.trial_started`."""
        state = (
            _QUEUED if self._spec.resources.hang_timeout_s else "RUNNING"
        )  # without heartbeats nothing is known
        self._trials[number] = _Trial(params, num_epochs, first_epoch, state)
        self._forecast.started(number, first_epoch=first_epoch, num_epochs=num_epochs, now=time.monotonic())
        if first_epoch:
            self.info(f"trial {number} goes on after epoch {first_epoch} of the one that was interrupted")

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """Update the trial's row; without a terminal, print a line. See `StudyListener.epoch_done`."""
        trial = self._trials[number]
        trial.state = "TRAINING" if trial.state == _QUEUED else trial.state
        self._forecast.epoch_done(number, epoch, time.monotonic())
        self._show_epoch(number, trial, epoch, value)

    def _show_epoch(self, number: int, trial: _Trial, epoch: int, value: float) -> None:
        """Show the value of an epoch once, at the first of the two calls that bring it."""
        if epoch <= trial.epoch:
            return
        trial.epoch, trial.value = epoch, value
        if not console.is_terminal:
            self._line(
                f"trial {number} epoch {epoch}/{trial.num_epochs} {self._spec.objective.name} {metric(value)}"
            )

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Show the trial's present action, and an epoch that was measured but not reported yet.

        See `StudyListener.trial_does`. A trial's time starts when its worker starts.
        """
        trial = self._trials.get(number)
        if trial is None or trial.ended is not None:
            return
        if trial.state == _QUEUED:
            trial.started = time.monotonic()
            self._forecast.begun(number, trial.started)
        trial.state = _STATES[doing]
        if value is not None:
            self._show_epoch(number, trial, epoch, value)

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """Complete the trial's row; without a terminal, print a line. See `StudyListener.trial_ended`."""
        trial = self._trials.setdefault(number, _Trial({}, 0, 0, state))
        trial.state, trial.ended = state, time.monotonic()
        self._forecast.ended(number, trial.ended, is_done=state != "FAIL")
        if value is not None:
            trial.value = value
        if state in ("COMPLETE", "PRUNED"):
            self._num_done += 1
        if state == "COMPLETE" and value is not None:
            better = self._best is None or self._spec.objective.better(value, self._best[0])
            self._best = (value, number) if better else self._best
        shown = f" {self._spec.objective.name} {metric(value)}" if value is not None else ""
        text = f"trial {number} {state}{shown} ({reason})"
        if state == "FAIL" or not console.is_terminal:
            self._line(f"{text}; {self._num_done} of {self._budget} done{self._with_best()}")

    def info(self, text: str) -> None:
        """Print a line above the table."""
        self._line(text)

    # ---- drawing ---------------------------------------------------------------------------------------

    def print_result(self, result: LaunchResult, command: str, *, database_url: str, storage: str) -> None:
        """Print how the launch ended and what to do next.

        Args:
            result: How the launch ended.
            command: Command line that resumes the study.
            database_url: The option that names the database, with a blank before it; empty if the default is used.
            storage: Folder or URI of the storage root.
        """
        name = self._spec.name
        if result.outcome == "finished":
            if result.reason is None:
                self._line(f"{name}: all {result.budget} trials done{self._with_best()}")
            else:
                took = seconds(time.monotonic() - self._started)
                done = f"{result.num_done} of {result.budget} trials done, {took}"
                self._line(f"{name}: {done}{self._with_best()}; {result.reason}")
                self._line(f"  to go on: {command}")
            self._line(f"  searcher trials --study {name}{database_url}")
            self._line(f"  searcher best --study {name}{database_url}")
        else:
            why = f": {result.problem}" if result.problem else ""
            self._line(f"{name}: {result.outcome} with {result.num_done} of {result.budget} trials done{why}")
            self._line(f"  to go on: {command}")
        self._line(f"  checkpoints and logs: {below(storage, name)}")

    def _line(self, text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    def _with_best(self) -> str:
        best = self._best_text()
        return f", best {best}" if best else ""

    def _best_text(self) -> str:
        if self._best is None:
            return ""
        value, trial = self._best
        return metric(value) + ("" if trial is None else f" (trial {trial})")

    def _render(self) -> Group:
        width, height = console.size
        footer = packed(self._footer(), width=width)
        now = time.monotonic()
        lines = [
            TrialLine(
                number,
                trial.state,
                trial.epoch,
                trial.num_epochs,
                trial.value,
                (now if trial.ended is None else trial.ended) - trial.started,
                trial.params,
            )
            for number, trial in self._trials.items()
        ]
        rows = max(_LEAST_LINES, height - len(footer) - 2)
        return Group(Text(), *trial_lines(lines, width=width, height=rows), *map(Text, footer))

    def _footer(self) -> list[str]:
        now = time.monotonic()
        to_do, hours = self._budget - self._num_done, self._spec.study.hours
        left = self._forecast.left_s(to_do, now)
        within: list[str] = []
        if left is not None and hours:
            given_s = self._started + hours * 3600 - now
            number = min(to_do, self._forecast.num_within(given_s, now)) + self._num_done
            within = [f"about {number} trials in {hours:g} h"]
            left = min(left, max([given_s, *self._forecast.running_left_s(now)]))
        objective = self._spec.objective.name
        best = self._best_text()
        return [
            f"{self._num_done} of {self._budget} trials done",
            f"{self._forecast.num_running} running",
            *([f"best {objective} {best}"] if best else []),
            f"{seconds(self._spent_s + now - self._started)} so far",
            *([f"about {seconds(left)} left"] if left is not None else []),
            *within,
        ]
