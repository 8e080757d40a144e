"""What a notebook or a script sees of work that takes long: one line on standard error, or nothing."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from searcher.escaping import one_line
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.training.alive import Doing

__all__ = ["LoggingListener", "ProgressLine"]

logger = logging.getLogger("searcher")

_WIDTH = 24


class ProgressLine:
    """A progress bar of text on standard error, redrawn in place, in a terminal or a notebook.

    Args:
        is_shown: Whether to write anything at all.
    """

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._length = 0

    def show(self, title: str, done: int, total: int, more: str = "") -> None:
        """Draw the progress bar.

        Args:
            title: Name of the work.
            done: Number of finished steps.
            total: Number of all steps; 0 or less if it is not known.
            more: Text after the bar.
        """
        if not self._is_shown:
            return
        filled = _WIDTH * min(done, total) // total if total > 0 else 0
        text = one_line(f"{title} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{max(total, 0)}{more}")
        sys.stderr.write("\r" + text.ljust(self._length))
        sys.stderr.flush()
        self._length = len(text)

    def end(self) -> None:
        """Start a new line, if a bar was drawn."""
        if self._length:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._length = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Context manager for one step of the work; it yields a function to call with (done, total)."""
        try:
            yield lambda done, total: self.show(title, done, total)
        finally:
            self.end()


class LoggingListener:
    """A `StudyListener` that logs messages for the user, and draws the progress of the study.

    Args:
        spec: The study.
        line: Draws the progress.
    """

    def __init__(self, spec: StudySpec, line: ProgressLine) -> None:
        self._spec = spec
        self._line = line
        self._budget = spec.study.trials
        self._num_done = 0
        self._best: float | None = None

    def study_opened(
        self,
        *,
        budget: int,
        num_done: int,
        best: float | None,
        spent_s: float,
        earlier: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Log how many trials of the study are done; see `StudyListener.study_opened`."""
        del earlier
        self._budget, self._num_done, self._best = budget, num_done, best
        logger.info("%s: %d of %d trials done in %.0f s", self._spec.name, num_done, budget, spent_s)
        self._draw()

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """Log the trial's epochs and parameters; see `StudyListener.trial_started`."""
        logger.info("trial %d: epochs %d to %d, %s", number, first_epoch + 1, num_epochs, dict(params))

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """Log the trial's epoch and objective; see `StudyListener.epoch_done`."""
        logger.info("trial %d: epoch %d, %s=%g", number, epoch, self._spec.objective.name, value)

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Do nothing; see `StudyListener.trial_does`."""

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """Log the trial's end and draw the progress of the study; see `StudyListener.trial_ended`."""
        level = logging.WARNING if state == "FAIL" else logging.INFO
        logger.log(level, "trial %d %s: %s", number, state, reason)
        self._num_done += state in ("COMPLETE", "PRUNED")
        if state == "COMPLETE" and value is not None:
            is_better = self._best is None or self._spec.objective.better(value, self._best)
            self._best = value if is_better else self._best
        self._draw()

    def info(self, text: str) -> None:
        """Log the text as a warning."""
        logger.warning("%s: %s", self._spec.name, text)

    def _draw(self) -> None:
        best = "" if self._best is None else f", best {self._spec.objective.name} {self._best:.4g}"
        self._line.show(self._spec.name, self._num_done, self._budget, f" trials{best}")
