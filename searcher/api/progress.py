"""What a notebook or a script sees of work that takes long: one line on standard error, or nothing."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from searcher.escaping import one_line
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.training.alive import Doing

__all__ = ["LoggingListener", "ProgressLine"]

logger = logging.getLogger("searcher")

_WIDTH = 24


class ProgressLine:
    """A bar of text that is drawn over itself, in a terminal and in a notebook alike.

    Args:
        is_shown: Whether anything is written at all.
    """

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._length = 0

    def show(self, title: str, done: int, total: int, more: str = "") -> None:
        """Draw the bar.

        Args:
            title: What is done.
            done: Steps that are done.
            total: Steps in all; 0 or less for an unknown number.
            more: What to say behind it.
        """
        if not self._is_shown:
            return
        filled = _WIDTH * min(done, total) // total if total > 0 else 0
        text = one_line(f"{title} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{max(total, 0)}{more}")
        sys.stderr.write("\r" + text.ljust(self._length))
        sys.stderr.flush()
        self._length = len(text)

    def end(self) -> None:
        """Begin a new line, if something was drawn."""
        if self._length:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._length = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show one step of the work; gives what is called with (done, total)."""
        try:
            yield lambda done, total: self.show(title, done, total)
        finally:
            self.end()


class LoggingListener:
    """A `StudyListener` that logs what a person should know, and draws the study's progress.

    Args:
        spec: The study.
        line: Where progress is drawn.
    """

    def __init__(self, spec: StudySpec, line: ProgressLine) -> None:
        self._spec = spec
        self._line = line
        self._budget = spec.study.trials
        self._num_done = 0
        self._best: float | None = None

    def study_opened(self, *, budget: int, num_done: int, best: float | None, spent_s: float) -> None:
        """Take in where the study stands; see `StudyListener.study_opened`."""
        self._budget, self._num_done, self._best = budget, num_done, best
        logger.info("%s: %d of %d trials done in %.0f s", self._spec.name, num_done, budget, spent_s)
        self._draw()

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """Log it; see `StudyListener.trial_started`."""
        logger.info("trial %d: epochs %d to %d, %s", number, first_epoch + 1, num_epochs, dict(params))

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """Log it; see `StudyListener.epoch_done`."""
        logger.info("trial %d: epoch %d, %s=%g", number, epoch, self._spec.objective.name, value)

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Ignore it; see `StudyListener.trial_does`."""

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """Log it and draw the study's progress; see `StudyListener.trial_ended`."""
        level = logging.WARNING if state == "FAIL" else logging.INFO
        logger.log(level, "trial %d %s: %s", number, state, reason)
        self._num_done += state in ("COMPLETE", "PRUNED")
        if state == "COMPLETE" and value is not None:
            is_better = self._best is None or self._spec.objective.better(value, self._best)
            self._best = value if is_better else self._best
        self._draw()

    def info(self, text: str) -> None:
        """Log it."""
        logger.warning("%s: %s", self._spec.name, text)

    def _draw(self) -> None:
        best = "" if self._best is None else f", best {self._spec.objective.name} {self._best:.4g}"
        self._line.show(self._spec.name, self._num_done, self._budget, f" trials{best}")
