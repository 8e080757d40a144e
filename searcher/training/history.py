"""The metrics of a run, one line of JSON per epoch."""

import json
import logging
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from searcher.atomic_files import write_atomically

__all__ = ["append_epoch", "read_history", "truncate_history"]

logger = logging.getLogger(__name__)


def append_epoch(path: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """Append one epoch's line to a history, and flush it to disk. Values that are not finite become null.

    An incomplete last line, left by a kill, is removed first.

    Args:
        path: The history; created if it is missing.
        epoch: Number of the epoch, from 1.
        metrics: Metrics by name.

    Raises:
        OSError: The line could not be written, for example because the disk is full. Earlier lines stay, and no part of
            the new one.
    """
    values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    line = json.dumps({"epoch": epoch, **values}, allow_nan=False).encode() + b"\n"
    # Unbuffered: what a failed write leaves in a buffer is written once more when the file is closed.
    with path.open("a+b", buffering=0) as file:
        file.seek(0)
        end, line = _continued(file.read(), line)
        file.truncate(end)
        try:
            _write_all(file, line)
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Return the epochs of a history in order, a dictionary each; an empty list if there is no history.

    An incomplete last line, left by a kill, is skipped: its epoch has no checkpoint and is trained again. A damaged
    line further up is skipped, too, with a warning.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content.split(b"\n")
    epochs = []
    for number, line in enumerate(lines, start=1):
        epoch = _parsed(line)
        if epoch is not None:
            epochs.append(epoch)
        elif number < len(lines):
            logger.warning("%s: line %d is damaged and left out: %.60r", path, number, line)
    return epochs


def truncate_history(source: Path, path: Path, *, last_epoch: int) -> None:
    """Write the lines of the history `source` up to and including `last_epoch` to `path`, which may be the same file.

    Args:
        source: The history to read.
        path: The history to write.
        last_epoch: The last epoch to keep, from 1.

    Raises:
        OSError: A file could not be read or written; `path` is unchanged.
    """
    lines = [json.dumps(line) for line in read_history(source) if int(line["epoch"] or 0) <= last_epoch]
    write_atomically(path, lambda writer: writer.write("".join(f"{line}\n" for line in lines).encode()))


def _continued(content: bytes, line: bytes) -> tuple[int, bytes]:
    """Return how much of a history stays, and the line to add, after a newline if the last line lacks its own."""
    start = content.rfind(b"\n") + 1
    if start == len(content) or _parsed(content[start:]) is None:
        return start, line
    return len(content), b"\n" + line


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        epoch = json.loads(line)
    except (ValueError, RecursionError):  # also of bytes that are no UTF-8
        return None
    return epoch if isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int) else None


def _write_all(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]
