"""The metrics of a run, one line of JSON per epoch."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from searcher.training.files import write_atomically

__all__ = ["append_epoch", "read_history", "truncate_history"]


def append_epoch(path: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """Add one epoch's line, on disk when this returns. Values that are not finite become null."""
    values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    with path.open("ab") as file:
        file.write(json.dumps({"epoch": epoch, **values}, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Return the lines of a history in their order; an empty list if there is none.

    A last line cut short by a kill is left out: its epoch has no checkpoint, and will be trained again.
    """
    if not path.exists():
        return []
    epochs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            epochs.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return epochs


def truncate_history(source: Path, path: Path, *, last_epoch: int) -> None:
    """Make `path` the history of `source` up to and with `last_epoch`. Both may be the same file."""
    lines = [json.dumps(line) for line in read_history(source) if int(line["epoch"] or 0) <= last_epoch]
    write_atomically(path, lambda writer: writer.write("".join(f"{line}\n" for line in lines).encode()))
