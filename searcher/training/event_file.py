"""The metrics of a run for TensorBoard."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

__all__ = ["EventFile"]

logger = logging.getLogger(__name__)

_PREFIX = "events"
_PATTERN = f"{_PREFIX}.out.tfevents.*"


class EventFile:
    """A TensorBoard event file with one point per metric and epoch.

    The content is that of `metrics.jsonl`, from which the file is written again when a run starts or resumes. So an
    interrupted run has every epoch once. If the file cannot be written, that is logged once and the run continues.

    Args:
        folder: Folder of the run. Existing event files in it are replaced.
        history: Metrics of the epochs so far, from `read_history`.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, float | None]]) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        try:
            for old in folder.glob(_PATTERN):
                old.unlink()
            self._writer = EventsWriter(str(folder / _PREFIX))
            for line in history:
                self._write(int(line["epoch"] or 0), line)
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch to the file, and flush it."""
        if self._writer is None:
            return
        try:
            self._write(epoch, metrics)
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file. Safe to call again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):  # of a full disk, which was said before
                writer.close()

    def _write(self, epoch: int, metrics: Mapping[str, float | None]) -> None:
        assert self._writer is not None
        for name, value in metrics.items():
            if name != "epoch" and value is not None:
                event = Event(wall_time=time.time(), step=epoch, summary=scalar(_tag(name), value))
                self._writer.write_event(event)

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "%s: no event file for TensorBoard (%s), going on without", self._folder, error.strerror or error
        )
        self.close()


def _tag(name: str) -> str:
    """Return a metric's tag; TensorBoard puts those with the same first part into one group."""
    if name == "lr" or name.startswith("train_loss"):
        return f"training/{name}"
    return f"speed/{name}" if name.endswith("_s") or name.startswith("seconds") else f"validation/{name}"
