"""MATLAB files in which Lizard, CoNSeP, Kumar and CPM come: `inst_map` with a number for each object."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.shapes import MAX_SHAPES
from searcher.data_pipeline.datasets.annotations.text_files import starts_with
from searcher.data_pipeline.exceptions import DataError

__all__ = ["check_numbers", "is_matlab", "read_matlab"]

_MAP = "inst_map"
_CLASS_KEYS = ("class", "inst_type", "type")
_ID_KEYS = ("id", "inst_id")


def is_matlab(path: Path) -> bool:
    """Return whether a file starts like a MATLAB file."""
    return starts_with(path, 128).startswith(b"MATLAB")


def read_matlab(path: Path, height: int, width: int) -> Annotation:
    """Return the label map in a MATLAB file, and the class of each object for which the file has one.

    Args:
        path: The MATLAB file.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Raises:
        DataError: The file cannot be read, is of version 7.3, or has no `inst_map` of the image's size. Or that map
            holds negative numbers, fractions, or more than `MAX_SHAPES` objects.
    """
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        if _MAP not in shapes:
            names = ", ".join(sorted(shapes))[:80] or "nothing"
            raise DataError(f"{path}: must hold the label map {_MAP}, got {names}; save it under that name")
        if tuple(shapes[_MAP]) != (height, width):
            got = "x".join(map(str, reversed(shapes[_MAP])))
            raise DataError(
                f"{path}: {_MAP} must have its image's size {width}x{height}, got {got}; save it again"
            )
        limit = 4 * height * width
        wanted = [
            _MAP,
            *(key for key in (*_CLASS_KEYS, *_ID_KEYS) if np.prod(shapes.get(key, [limit + 1])) <= limit),
        ]
        found = scipy.io.loadmat(path, variable_names=wanted)
    except NotImplementedError:
        raise DataError(
            f"{path}: must be of MATLAB's version 7 or older, got 7.3; save it with -v7"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: the file must be readable, got {error.strerror or error}; restore it"
        ) from error
    except DataError:
        raise
    except Exception as error:  # scipy raises whatever struct, zlib and its own reader do
        raise DataError(
            f"{path}: must be a complete MATLAB file, got {' '.join(str(error).split())[:80]}; save it again"
        ) from None
    labels = check_numbers(str(path), found[_MAP])
    return Annotation(labels, _classes(found, labels))


def check_numbers(where: str, values: NDArray[Any]) -> NDArray[np.int32]:
    """Return a label map as int32[H, W], after checking its values.

    Args:
        where: The file, for messages.
        values: The label map, of any number type.

    Raises:
        DataError: The values are not whole numbers from 0 on, or there are more than `MAX_SHAPES` objects.
    """
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: a label map must hold numbers, got {values.dtype}; save it again")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise DataError(
            f"{where}: a label map must hold whole numbers, got fractions; save one number per object"
        )
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.int32).max):
        raise DataError(
            f"{where}: labels must lie in 0..{np.iinfo(np.int32).max}, got {values.min()} to {values.max()}; "
            "number the objects from 1"
        )
    labels = values.astype(np.int32)
    if labels.size and labels.max() > MAX_SHAPES and len(np.unique(labels)) - 1 > MAX_SHAPES:
        raise DataError(
            f"{where}: an image may have {MAX_SHAPES} objects, got more; cut it into smaller ones"
        )
    return labels


def _classes(found: dict[str, Any], labels: NDArray[np.int32]) -> dict[int, str]:
    """Return classes by label: of the object with the id in the same row, else in ascending order of the labels."""
    key = next((key for key in _CLASS_KEYS if key in found), None)
    if key is None or found[key].dtype.kind not in "iufU":
        return {}
    present = np.unique(labels[labels > 0])
    id_key = next((key for key in _ID_KEYS if key in found), None)
    ids = found[id_key].ravel() if id_key is not None else present
    kinds = found[key].ravel()
    if len(ids) != len(kinds) or ids.dtype.kind not in "iuf":
        return {}
    known = set(present.tolist())
    return {
        int(number): str(kind if isinstance(kind, str) else int(kind))
        for number, kind in zip(ids.tolist(), kinds.tolist(), strict=True)
        if number in known
    }
