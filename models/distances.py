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
    """Return how far each instance's pixel is from the nearest pixel that is not of its instance.

    Args:
        labels: int32[H, W], instance label map, 0 is background; labels may have gaps and several pieces.

    Returns:
        float32[H, W] in pixels: 0 on background, from 1 inside; infinite where one instance is all there is.
    """
    distance = np.zeros(labels.shape, np.float32)
    for window, mask in _instances(labels, margin=1):
        part = distance[window]
        np.copyto(part, _distance_to_zero(mask), where=mask.view(np.bool_))
    return distance


def normalised_border_distance(labels: NDArray[np.int32], *, cap_px: int) -> NDArray[np.float32]:
    """Return `border_distance`, cut off at a cap, divided by each instance's largest.

    Every instance, large or small, rises from near 0 at its border to 1 in its middle. So one threshold finds the
    middles of all. With a cap, all that is as deep is middle: a gland with lobes has one middle and not several. Of an
    instance cut off by the image's border, the middle is that of the visible part.

    Args:
        labels: int32[H, W], instance label map, 0 is background.
        cap_px: From here on deeper is not deeper, in pixels; 0 is no cap.

    Returns:
        float32[H, W] in 0 to 1, 0 on background only; 1 where one instance is all there is.
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
    """Return each pixel's distance to the nearest instance plus that to the second nearest.

    In a gap between two instances that is about the gap's width, inside an instance the distance to the nearest
    other one.

    Args:
        labels: int32[H, W], instance label map, 0 is background.
        reach_px: How far an instance is looked for, from 1; what is farther counts as not there.

    Returns:
        float32[H, W] in pixels, infinite where fewer than two instances are within reach.
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
