"""What a checkpoint's file must hold.

Such files come from elsewhere: nothing is unpickled but tensors and plain values. Memory is bounded by the file's
size: its records are stored as they are, never packed.
"""

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from searcher.escaping import one_line
from searcher.exceptions import CheckpointError

__all__ = ["check_archive", "check_fields", "check_records", "check_size", "read_content"]

_MAX_BYTES = 16 << 30
_MAX_PICKLE_BYTES = 256 << 20
_MAX_COUNT = 1 << 53


def check_size(path: Path, num_bytes: int) -> None:
    """Check that a checkpoint's file is not too large, before it is read.

    Raises:
        CheckpointError: The file is too large.
    """
    if num_bytes > _MAX_BYTES:
        raise CheckpointError(
            f"{path}: must be a checkpoint of at most {_MAX_BYTES >> 30} GiB, got {num_bytes} bytes; use another one"
        )


def check_archive(path: Path, file: BinaryIO, num_bytes: int) -> None:
    """Check that a file is an archive whose records are stored unpacked and no larger than the file.

    Args:
        path: The file, for messages.
        file: The open file.
        num_bytes: Size of the file.

    Raises:
        CheckpointError: The file is no such archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except Exception as error:  # whatever foreign bytes make the archive reader stumble over
        raise CheckpointError(
            f"{path}: must be a whole checkpoint, got {num_bytes} bytes that torch cannot read ({_short(error)}); "
            "use another one"
        ) from error
    is_packed = any(each.compress_type != zipfile.ZIP_STORED for each in records)
    largest = max((each.file_size for each in records if each.filename.endswith(".pkl")), default=0)
    if is_packed or sum(each.file_size for each in records) > num_bytes or largest > _MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path}: must be an archive whose records are stored as they are, got larger or packed ones; use the "
            "file as it was written"
        )
    file.seek(0)


def read_content(path: Path, file: BinaryIO, num_bytes: int) -> object:
    """Return the content of a checkpoint's file, with tensors on the CPU.

    Args:
        path: The file, for messages.
        file: The open file.
        num_bytes: Size of the file, for messages.

    Raises:
        CheckpointError: torch cannot read the file, or it holds other things than tensors and plain values.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path}: must be a whole checkpoint, got {num_bytes} bytes that torch cannot read ({_short(error)}); "
            "use another one"
        ) from error


def check_records(path: Path, file: BinaryIO) -> None:
    """Check the checksums inside a checkpoint's file, which torch writes but does not check.

    Raises:
        CheckpointError: A record was changed.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path}: must be a whole checkpoint, got an archive that cannot be checked ({_short(error)}); use another "
            "one"
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path}: must be as it was written, got changed bytes in its record {one_line(damaged)}; use another one"
        )


def check_fields(path: Path, fields: Mapping[str, Any]) -> None:
    """Check the type of each field of a checkpoint.

    Raises:
        CheckpointError: A field has a wrong type; the message names the first.
    """
    for name, value in fields.items():
        what, is_valid = _RULES[name]
        if not is_valid(value):
            raise CheckpointError(
                f"{path}: {name} must be {what}, got {_shown(value)}; use another checkpoint"
            )


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return one_line((lines[0] if lines else type(error).__name__)[:120])


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float | str):
        try:
            return repr(value)[:40]
        except ValueError:  # an integer of thousands of digits
            return "a huge integer"
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _MAX_COUNT


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_metrics(value: object) -> bool:
    return isinstance(value, dict) and _is_table(value) and all(map(_is_number, value.values()))


def _is_progress(value: object) -> bool:
    return isinstance(value, dict) and _is_count(value.get("best_epoch"))


def _are_weights(value: object) -> bool:
    if not isinstance(value, dict) or not value or not _is_table(value):
        return False
    return all(type(each) is Tensor and each.layout is torch.strided for each in value.values())


def _is_average(value: object) -> bool:
    return value is None or (isinstance(value, dict) and _are_weights(value.get("weights")))


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, float) and 0 < value < math.inf)


def _are_keys(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _are_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_table, value))


_RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "config": ("a configuration", _is_table),
    "config_digest": ("a text", _is_text),
    "data_fingerprint": ("a SHA-256 of 64 hexadecimal digits", _is_digest),
    "objective": ("a metric's name", _is_text),
    "epoch": ("a whole number of at least 0", _is_count),
    "next_batch": ("a whole number of at least 0", _is_count),
    "step": ("a whole number of at least 0", _is_count),
    "value": ("a number", _is_number),
    "metrics": ("numbers by name", _is_metrics),
    "progress": ("a table with best_epoch", _is_progress),
    "model": ("tensors by name", _are_weights),
    "ema": ("nothing or a table with weights", _is_average),
    "optimizer": ("a table", _is_table),
    "schedule": ("a table", _is_table),
    "random": ("a table", _is_table),
    "tuned": ("nothing or a table", lambda value: value is None or _is_table(value)),
    "lineage": ("a list of tables", _are_tables),
    "dtype": ("uint8 or uint16", lambda value: value in ("uint8", "uint16")),
    "left_to_data": ("a list of keys", _are_keys),
    "pixel_size_um": ("nothing or a number above 0", _is_size),
}
"""What each part must be, for messages, and what tells it."""
