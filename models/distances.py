"""Exact Euclidean distances between instances, on the CPU.

Distances are between the centres of pixels: an instance's pixel next to another instance or background has distance 1.
The image's own border is no border of an instance: nobody knows what lies behind it.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

__all__ = ["border_distance", "normalised_border_distance", "sum_of_two_nearest"]

_MAX_LISTED_LABEL = 4096
"""Up to this label one list entry per possible label is cheaper than sorting the pixels."""

Window = tuple[slice, slice]


def border_distance(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the distance of each pixel of an instance to the nearest pixel outside that instance.

    Args:
        labels: int32[H, W], instance label map, 0 is background. Numbers may be missing, and an instance may have
            several pieces.

    Returns:
        float32[H, W] in pixels: 0 on background, 1 or more inside instances; infinite if one instance fills the image.
    """
    distance = np.zeros(labels.shape, np.float32)
    for window, mask in _instances(labels, margin=1):
        part = distance[window]
        np.copyto(part, _distance_to_zero(mask), where=mask.view(np.bool_))
    return distance


def normalised_border_distance(labels: NDArray[np.int32], *, cap_px: int) -> NDArray[np.float32]:
    """Return `border_distance`, limited to `cap_px` and divided by its largest value in each instance.

    Every instance, large or small, rises from near 0 at its border to 1 in its middle. So one threshold finds the
    middles of all. The cap gives a lobed gland one middle instead of several. The image's border does not count as a
    border of an instance.

    Args:
        labels: int32[H, W], instance label map, 0 is background.
        cap_px: Larger distances are set to this one, in pixels; 0 for no limit.

    Returns:
        float32[H, W] in 0 to 1, 0 on background only; 1 everywhere if one instance fills the image.
    """
    distance = np.zeros(labels.shape, np.float32)
    for window, mask in _instances(labels, margin=1):
        inside = _distance_to_zero(mask)
        if cap_px:
            np.minimum(inside, np.float32(cap_px), out=inside)
        largest = inside.max()
        inside = inside / largest if np.isfinite(largest) else np.ones_like(inside)
        np.copyto(distance[window], inside, where=mask.view(np.bool_))
    return distance


def sum_of_two_nearest(labels: NDArray[np.int32], *, reach_px: int) -> NDArray[np.float32]:
    """Return each pixel's distance to the nearest instance plus its distance to the second nearest.

    Between two instances the sum is about the width of the gap. Inside an instance it is the distance to the nearest
    other instance.

    Args:
        labels: int32[H, W], instance label map, 0 is background.
        reach_px: Largest distance that is looked at, in pixels, at least 1; instances farther away do not count.

    Returns:
        float32[H, W] in pixels; infinite where fewer than two instances are within reach.
    """
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = nearest.copy()
    for window, mask in _instances(labels, margin=reach_px):
        distance = _distance_to_zero(1 - mask)
        distance[distance > reach_px] = np.inf
        first = nearest[window]
        np.minimum(second[window], np.maximum(first, distance), out=second[window])
        np.minimum(first, distance, out=first)
    return nearest + second


def _instances(labels: NDArray[np.int32], *, margin: int) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Yield each instance's bounding box, with a margin inside the image, and its mask in it."""
    if labels.size and labels.max() > _MAX_LISTED_LABEL:
        values, inverse = np.unique(labels, return_inverse=True)
        # The place in the sorted list of values is a label without gaps; 0 keeps its own.
        labels = inverse.reshape(labels.shape).astype(np.int32) + np.int32(values[0] != 0)
    for label, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        rows, columns = (
            slice(max(0, side.start - margin), min(size, side.stop + margin))
            for side, size in zip(box, labels.shape, strict=True)
        )
        yield (rows, columns), (labels[rows, columns] == label).view(np.uint8)


def _distance_to_zero(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each pixel's exact distance to the nearest 0 of the mask, infinite if it has none."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squares of distances are whole numbers. OpenCV (5.0) rounds their roots otherwise from call to call, in the last
    # digit: enough for the same seed to give other losses.
    exact: NDArray[np.float32] = np.sqrt(np.rint(np.square(distance, dtype=np.float64))).astype(np.float32)
    return exact
