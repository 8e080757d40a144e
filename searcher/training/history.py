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
    """Add one epoch's line, on disk when this returns. Values that are not finite become null.

    A last line that a kill cut short is taken away first.

    Args:
        path: The history, made where it is missing.
        epoch: From 1.
        metrics: By name.

    Raises:
        OSError: It could not be written, the disk is full, say. The lines that were there stay, and no part of
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
    """Return the lines of a history in their order; an empty list if there is none.

    A last line cut short by a kill is left out: its epoch has no checkpoint, and will be trained again. So is a
    damaged line further up, with a warning.

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
    """Make `path` the history of `source` up to and with `last_epoch`. Both may be the same file.

    Args:
        source: The history to read.
        path: The history to write.
        last_epoch: The last epoch to keep, from 1.

    Raises:
        OSError: It could not be read or written; `path` is as before.
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
