"""Pixels that nobody annotated: below 0 in a label map. No loss, no metric and no penalty counts there.

A label map of a file has -1 there, or another number that the data set names (`dataset.toml`, `--not-annotated`). An
object's own pixels are annotated in every place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError

__all__ = [
    "UNANNOTATED",
    "check_annotated",
    "is_partial",
    "marked_outside",
    "marked_value",
    "objects_only",
    "unannotated_remark",
]

UNANNOTATED = -1
"""Label of a pixel that nobody annotated."""


def is_partial(labels: NDArray[np.integer[Any]]) -> bool:
    """Return whether at least one pixel of a label map is not annotated."""
    return labels.dtype.kind == "i" and bool(labels.size) and int(labels.min()) < 0


def objects_only(labels: NDArray[Any]) -> NDArray[Any]:
    """Return a label map with 0 instead of -1 where pixels are not annotated; the same array if all are annotated."""
    return np.maximum(labels, 0) if is_partial(labels) else labels


def marked_value(labels: NDArray[Any], value: int | None) -> NDArray[Any]:
    """Return a label map in which the pixels with a certain value are marked as not annotated (-1).

    Without a value, or with one below 0, the same array is returned.
    """
    if value is None or value < 0:
        return labels
    return np.where(labels == value, labels.dtype.type(UNANNOTATED), labels)


def marked_outside(labels: NDArray[np.int32], is_known: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return a label map in which background outside the annotated region is marked as not annotated (-1).

    Objects outside the region stay as they are.

    Args:
        labels: int32[H, W].
        is_known: bool[H, W], true inside the annotated region.
    """
    return np.where((labels == 0) & ~is_known, np.int32(UNANNOTATED), labels)


def check_annotated(where: object, labels: NDArray[np.integer[Any]]) -> None:
    """Check that a label map has at least one annotated pixel.

    Args:
        where: The annotation file or the image's name, for the message.
        labels: The label map of the image.

    Raises:
        DataError: No pixel is annotated.
    """
    if labels.dtype.kind == "i" and labels.size and int(labels.max()) < 0:
        raise DataError(
            f"{where}: a part of the image must be annotated, got a label map without an annotated pixel; "
            "move the image away"
        )


def unannotated_remark(where: str, shares: list[float]) -> str | None:
    """Return a line that states how much of a data set is not annotated; None if all of it is annotated.

    Args:
        where: The data set, for the line.
        shares: Annotated share of each image's pixels, 0 to 1.
    """
    partial = [share for share in shares if share < 1]
    if not partial:
        return None
    missing = 1 - sum(partial) / len(partial)
    return (
        f"{where}: {len(partial)} of {len(shares)} images are annotated in part, {missing:.0%} of their pixels are "
        "not; no loss and no metric counts there"
    )
