"""The files that `searcher evaluate --json` and `searcher metrics --json` write, read back for the contest's table."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher.exceptions import UserError
from searcher.text_files import read_json

__all__ = ["EVALUATION_SCHEMA", "METRICS_SCHEMA", "TEST_SETS", "Figures", "MeasuredSet", "read_measured_sets"]

EVALUATION_SCHEMA = "searcher-evaluation-1"
"""Of `searcher evaluate`: summaries by split below `splits`."""
METRICS_SCHEMA = "searcher-metrics-1"
"""Of `searcher metrics`: one summary at the top level."""
TEST_SETS = ("testA", "testB")
"""The splits that the challenge's table is about, in its order."""

_WRITERS = "searcher evaluate --json or searcher metrics --json"
_REMEDY = f"write it with {_WRITERS}"
_MAX_BYTES = 1 << 28
"""Of the figures of half a million images."""


@dataclass(frozen=True)
class Figures:
    """The three figures of a method on one test set, as the challenge's table has them."""

    f1: float
    object_dice: float
    object_hausdorff: float
    """In pixels."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSet:
    """The figures of a method on one of the challenge's test sets, and the file they come from."""

    method: str
    split: str
    """One of `TEST_SETS`."""
    num_images: int
    pooled: Figures
    """By the official metrics over the whole set."""
    poster: Figures | None
    """By the poster's own metrics, if they were requested."""
    is_relabelled: bool
    """Whether each piece of a label was taken as an object."""
    path: Path
    """Where it was read from."""


def read_measured_sets(path: Path, method: str | None = None) -> list[MeasuredSet]:
    """Return the figures in a file for the challenge's test sets; other splits are skipped.

    Args:
        path: A file that `searcher evaluate --json` or `searcher metrics --json` wrote.
        method: Name of the method; None for the name in the file.

    Raises:
        UserError: The file is something else, or holds no test set of the challenge.
    """
    record = _read(path)
    schema = record.get("schema")
    if schema == EVALUATION_SCHEMA:
        splits = record.get("splits")
        if not isinstance(splits, dict):
            raise UserError(f"{path}: splits: must be a table by split, got {_shown(splits)}; {_REMEDY}")
    elif schema == METRICS_SCHEMA:
        splits = {str(record.get("split")): record}
    else:
        raise UserError(
            f"{path}: schema: must be {EVALUATION_SCHEMA} or {METRICS_SCHEMA}, got {_shown(schema)}; {_REMEDY}"
        )
    wanted = {split: splits[split] for split in TEST_SETS if split in splits}
    if not wanted:
        remedy = "--splits testA,testB" if schema == EVALUATION_SCHEMA else "--split testA (or testB)"
        got = ", ".join(splits).replace("None", "no split")
        raise UserError(
            f"{path}: must be about testA or testB, got {got or 'nothing'}; measure again with {remedy}"
        )
    name = method or record.get("name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: name: must be a text, got {_shown(name)}; name it as NAME={path}")
    prefix = "" if schema == METRICS_SCHEMA else "splits."
    return [
        _measured_set(path, name, split, found, prefix and f"{prefix}{split}.")
        for split, found in wanted.items()
    ]


def _measured_set(path: Path, method: str, split: str, found: Any, prefix: str) -> MeasuredSet:
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: {prefix.rstrip('.')}: must be a table of figures, got {_shown(found)}; {_REMEDY}"
        )
    num_images = found.get("num_images")
    if not isinstance(num_images, int) or num_images < 1:
        raise UserError(
            f"{path}: {prefix}num_images: must be at least 1, got {_shown(num_images)}; {_REMEDY}"
        )
    poster = found.get("poster")
    return MeasuredSet(
        method=method,
        split=split,
        num_images=num_images,
        pooled=_figures(path, f"{prefix}pooled", found.get("pooled")),
        poster=None if poster is None else _figures(path, f"{prefix}poster", poster),
        is_relabelled=found.get("relabelled") is True,
        path=path,
    )


def _figures(path: Path, key: str, found: Any) -> Figures:
    if not isinstance(found, dict):
        raise UserError(f"{path}: {key}: must be a table of figures, got {_shown(found)}; {_REMEDY}")
    values = []
    for name, highest in (("f1", 1.0), ("object_dice", 1.0), ("object_hausdorff", sys.float_info.max)):
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
            rule = "a number from 0 to 1" if highest == 1 else "a distance in pixels"
            raise UserError(f"{path}: {key}.{name}: must be {rule}, got {_shown(value)}; {_REMEDY}")
        values.append(float(value))
    return Figures(*values)


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path, what=f"what {_WRITERS} wrote", max_bytes=_MAX_BYTES)
    if not isinstance(record, dict):
        raise UserError(f"{path}: must be a JSON object, got {_shown(record)}; {_REMEDY}")
    return record


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}.."
