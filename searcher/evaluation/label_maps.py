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
    """Return a label map as integer[H, W], 0 background, values as stored; see `searcher.data_pipeline.images`.

    Raises:
        DataError: The file does not decode, or is no label map.
    """
    return read_wide_labels(path)


def relabelled(labels: IntArray) -> NDArray[np.int32]:
    """Return the label map with every 8-connected piece of a label as an object of its own, specks dropped.

    In GlaS test B, images 3, 11, 18 and 19 carry one label for all their glands; a binary mask does as well.
    Objects of different labels stay apart where they touch. Pieces of up to 2 pixels are dropped.

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
