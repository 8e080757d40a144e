"""The metrics of the DTU poster (02456, project 9), only to compare with its table like with like.

They are not the contest's. F1 is pixel Dice, and instances are discarded before objects are compared. Every object is
judged inside its own pixels or box only. All images are squashed to a square. For anything else use
`searcher.evaluation.official_metrics`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.annotated import where_annotated
from searcher.evaluation.hausdorff import pair_hausdorff
from searcher.evaluation.labelled_objects import IntArray, LabelledObjects, overlaps

__all__ = ["PosterMetrics", "compare_as_poster", "mean"]

POSTER_SIZE_PX = 512
"""Side length the poster squashed its images and masks to."""


@dataclass(frozen=True)
class PosterMetrics:
    """The metrics of the DTU poster for one image, or their means over images."""

    f1: float
    """Pixel Dice of the whole binary masks; 1 if both are empty."""
    object_dice: float
    """Mean of both sides' area-weighted Dice of an object X with what its partner has inside X; without a
    partner 0. 1 if both sides are empty."""
    object_hausdorff: float
    """Mean of both sides' area-weighted Hausdorff distance, in pixels of the squashed image, of an object to
    what its partner has inside the object's box. An object without a partner adds (box area / area of all
    objects of its side) times the box's diagonal instead. 0 if both sides are empty."""
    count: float
    """The smaller number of objects by the larger; 0 if a side has none."""


def compare_as_poster(
    truth: IntArray, prediction: IntArray, *, size_px: int | None = POSTER_SIZE_PX
) -> PosterMetrics:
    """Return the metrics of the DTU poster for one image.

    The label maps only define the foreground: the objects of both sides are its 8-connected components.

    Args:
        truth: integer[H, W], 0 is background, below 0 not annotated; see `where_annotated`.
        prediction: integer[H, W], 0 is background.
        size_px: Side of the square to which both are resized first, by nearest neighbour; None to keep their size.

    Raises:
        ValueError: The shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"truth and prediction must have the same shape, got truth {truth.shape} prediction "
            f"{prediction.shape}; resize the prediction to the image with nearest-neighbour interpolation"
        )
    truth, prediction = where_annotated(truth, prediction)
    glands, found = _components(truth, size_px), _components(prediction, size_px)
    sides = list(_sides(glands, found))
    if not sides:
        return PosterMetrics(f1=1.0, object_dice=1.0, object_hausdorff=0.0, count=0.0)
    shared = np.count_nonzero((glands.index_map != 0) & (found.index_map != 0))
    return PosterMetrics(
        f1=2 * shared / int(glands.areas.sum() + found.areas.sum()),
        object_dice=sum(_dice(own, other) for own, other in sides) / 2,
        object_hausdorff=sum(_hausdorff(own, other) for own, other in sides) / 2,
        count=min(len(glands), len(found)) / max(len(glands), len(found)),
    )


def mean(metrics: Sequence[PosterMetrics]) -> PosterMetrics:
    """Return the mean of each metric over images.

    Args:
        metrics: The metrics of at least one image.

    Raises:
        ValueError: There is no image.
    """
    if not metrics:
        raise ValueError("metrics need at least one compared image, got none")
    return PosterMetrics(*np.mean([astuple(image) for image in metrics], axis=0).tolist())


def _components(labels: NDArray[np.integer[Any]], size_px: int | None) -> LabelledObjects:
    """Return the 8-connected components of the foreground, squashed first."""
    mask = (labels != 0).astype(np.uint8)
    if size_px is not None:
        mask = cv2.resize(mask, (size_px, size_px), interpolation=cv2.INTER_NEAREST)
    return LabelledObjects(cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)[1])


def _sides(
    glands: LabelledObjects, found: LabelledObjects
) -> Iterator[tuple[LabelledObjects, LabelledObjects]]:
    """Yield each side that has objects, with the other."""
    if len(glands):
        yield glands, found
    if len(found):
        yield found, glands


def _dice(own: LabelledObjects, other: LabelledObjects) -> float:
    """Return the area-weighted Dice of one side; where an object has no partner its shared pixels are 0."""
    shared = overlaps(own, other)[0].pixels
    return float(np.average(2 * shared / (own.areas + shared), weights=own.areas))


def _hausdorff(own: LabelledObjects, other: LabelledObjects) -> float:
    """Return the area-weighted Hausdorff distance of one side, each object's measured inside its box."""
    total = 0.0
    for index, partner in enumerate(overlaps(own, other)[0].partners):
        top, left, bottom, right = own.boxes[index]
        if partner < 0:
            height, width = int(bottom - top), int(right - left)
            total += height * width * math.hypot(height, width)
            continue
        box = np.s_[top:bottom, left:right]
        own_part = LabelledObjects((own.index_map[box] == index + 1).astype(np.int32))
        other_part = LabelledObjects((other.index_map[box] == partner + 1).astype(np.int32))
        distance = pair_hausdorff(own_part, other_part, np.zeros((1, 2), np.int64))[0]
        total += int(own.areas[index]) * float(distance)
    return total / int(own.areas.sum())
