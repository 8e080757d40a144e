"""Label maps that any program wrote: reading them, and giving each piece of a label a number of its own."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets.files import decode_label_map
from data_pipeline.exceptions import DataError
from searcher.evaluation.objects import IntArray

__all__ = ["NUMPY_SUFFIX", "read_label_map", "relabelled"]

NUMPY_SUFFIX = ".npy"

_SPECK_PX = 2
"""Pieces up to this area are dropped, as what is left over where glands were outlined by hand."""


def read_label_map(path: Path) -> IntArray:
    """Return the label map of a png, tif, bmp or npy file as integer[H, W], 0 background, values as they are.

    Raises:
        DataError: The file does not decode, or is no label map: integers of two dimensions, at least one pixel, none
            below 0, in pictures up to 32 bits.
    """
    if path.suffix.lower() != NUMPY_SUFFIX:
        return decode_label_map(path)
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path}: must be a whole array of numbers as NumPy saves it, got {said}") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or not labels.size:
        got = f"shape {labels.shape}" if isinstance(labels, np.ndarray) else "an archive of several arrays"
        raise DataError(f"{path}: a label map must have rows and columns, got {got}; save one array[H, W]")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: a label map must be of integers, got {labels.dtype}; "
            "save one number per instance, 0 for background"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{path}: labels must lie in 0..{np.iinfo(np.int64).max}, got {labels.min()} to {labels.max()}; "
            "number the instances from 1"
        )
    return np.ascontiguousarray(labels, np.int64 if labels.dtype.itemsize == 8 else np.int32)


def relabelled(labels: IntArray) -> NDArray[np.int32]:
    """Return the label map with every 8-connected piece of a label as an object of its own, specks dropped.

    In GlaS test B, images 3, 11, 18 and 19 carry one label for all their glands; a binary mask does as well.
    Objects of different labels stay apart where they touch. Pieces of up to 2 pixels are dropped.

    Args:
        labels: integer[H, W], 0 is background.

    Returns:
        int32[H, W], 1 to the number of pieces in the order of their first pixels.
    """
    from skimage.measure import label  # half a second to import

    pieces = label(labels, background=0, connectivity=2)
    is_kept = np.bincount(pieces.ravel(), minlength=1) > _SPECK_PX
    is_kept[0] = False
    numbers = np.where(is_kept, np.cumsum(is_kept), 0).astype(np.int32)
    found: NDArray[np.int32] = numbers[pieces]
    return found
