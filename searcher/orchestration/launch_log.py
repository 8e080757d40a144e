"""The launch's log: a file with all that its terminal showed."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from searcher.escaping import one_line
from searcher.exceptions import StorageError
from searcher.orchestration.listener import StudyListener
from searcher.storage.object_store import ObjectStore
from searcher.study.space import Value
from searcher.training.alive import Doing

__all__ = ["LaunchLog"]

logger = logging.getLogger(__name__)

_SHARE_EVERY_S = 15.0


class LaunchLog:
    """A `StudyListener` that writes each message to a log file and passes it on. Use it as a context manager.

    All launches of a study use the same file. If it cannot be written, for example because the disk is full, a message
    is shown once and the launch continues.

    Args:
        path: The file; created with its folder when the first line comes.
        listener: Another listener that receives the same messages.
        origin: Object store to which the file is copied every few seconds and at the end; None for none.
        name: Name of the file in the object store.
    """

    def __init__(
        self, path: Path, listener: StudyListener, *, origin: ObjectStore | None = None, name: str = ""
    ) -> None:
        self._path = path
        self._origin = origin
        self._name = name
        self._shared_at = float("-inf")
        self._listener = listener
        self._failed = False
        self._has_begun = False

    def __enter__(self) -> Self:
        if self._origin is not None and self._origin.download(self._name, self._path) is None:
            self._path.unlink(missing_ok=True)  # of another study of that name
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if error is not None and self._has_begun:  # a launch that is refused leaves nothing behind
            self._write(f"broke off: {type(error).__name__}: {' '.join(str(error).split())}")
        if self._has_begun:
            self._share(at_once=True)

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
        self._write(
            f"launched: {num_done} of {budget} trials done" + ("" if best is None else f", best {best:g}")
        )
        self._listener.study_opened(
            budget=budget, num_done=num_done, best=best, spent_s=spent_s, earlier=earlier
        )

    def trial_started(
        self, number: int, params: Mapping[str, Value], *, first_epoch: int, num_epochs: int
    ) -> None:
        """Log the trial's parameters; see `StudyListener.trial_started`."""
        shown = ", ".join(f"{name}={value}" for name, value in params.items())
        begins = (
            f"goes on after epoch {first_epoch} of {num_epochs}" if first_epoch else f"{num_epochs} epochs"
        )
        self._write(f"trial {number} started, {begins}: {shown}")
        self._listener.trial_started(number, params, first_epoch=first_epoch, num_epochs=num_epochs)

    def epoch_done(self, number: int, epoch: int, value: float) -> None:
        """Log the epoch's value; see `StudyListener.epoch_done`."""
        self._write(f"trial {number} epoch {epoch}: {value:g}")
        self._listener.epoch_done(number, epoch, value)

    def trial_does(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Pass the message on without logging it; see `StudyListener.trial_does`."""
        self._listener.trial_does(number, doing, epoch, value)

    def trial_ended(self, number: int, state: str, *, value: float | None, reason: str | None) -> None:
        """Log the trial's state and why it ended; see `StudyListener.trial_ended`."""
        shown = "" if value is None else f" {value:g}"
        self._write(f"trial {number} {state}{shown}: {reason}")
        self._listener.trial_ended(number, state, value=value, reason=reason)

    def info(self, text: str) -> None:
        """Log a message for the user."""
        self._write(text)
        self._listener.info(text)

    def note(self, text: str) -> None:
        """Log a message that the user received before the log began."""
        self._write(text)

    def ended(self, outcome: str, problem: str | None) -> None:
        """Log the outcome of the launch."""
        self._write(outcome if problem is None else f"{outcome}: {problem}")

    def _write(self, text: str) -> None:
        self._has_begun = True
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())}Z {one_line(text)}\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._listener.info(
                    f"{self._path}: cannot be written ({error.strerror}), going on without it"
                )
        else:
            self._failed = False
            self._share()

    def _share(self, *, at_once: bool = False) -> None:
        if self._origin is None or (not at_once and time.monotonic() - self._shared_at < _SHARE_EVERY_S):
            return
        try:
            self._origin.upload(self._path, self._name)
        except (StorageError, OSError) as error:  # of the trials' files it is said elsewhere
            logger.warning("the launch's log could not be kept: %s", error)
        self._shared_at = time.monotonic()
