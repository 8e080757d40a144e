"""Label maps that any program wrote: reading them, and giving each piece of a label a number of its own."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.images import read_wide_labels
from searcher.data_pipeline.unannotated import UNANNOTATED, is_partial, objects_only
from searcher.evaluation.labelled_objects import IntArray

__all__ = ["read_label_map", "relabelled"]

_SPECK_PX = 2
"""Pieces up to this area are dropped, as what is left over where glands were outlined by hand."""


def read_label_map(path: Path) -> IntArray:
    """Return a label map as int32[H, W], or int64 if a label needs it.

    0 is background, -1 is not annotated, and other values are as stored.

    Raises:
        DataError: The file cannot be decoded, or is no label map.
    """
    return read_wide_labels(path)


def relabelled(labels: IntArray) -> NDArray[np.int32]:
    """Return a label map in which every 8-connected piece of a label is an object of its own; tiny pieces are dropped.

    In GlaS test B, images 3, 11, 18 and 19 have one label for all their glands; binary masks do, too. Objects with
    different labels stay separate where they touch. Pieces of up to 2 pixels are dropped.

    Args:
        labels: integer[H, W], 0 is background, below 0 not annotated, which stays.

    Returns:
        int32[H, W], 1 to the number of pieces in the order of their first pixels.
    """
    if is_partial(labels):
        return np.where(labels < 0, np.int32(UNANNOTATED), relabelled(objects_only(labels)))
    from skimage.measure import label  # half a second to import

    pieces = label(labels, background=0, connectivity=2)
    is_kept = np.bincount(pieces.ravel(), minlength=1) > _SPECK_PX
    is_kept[0] = False
    numbers = np.where(is_kept, np.cumsum(is_kept), 0).astype(np.int32)
    found: NDArray[np.int32] = numbers[pieces]
    return found
