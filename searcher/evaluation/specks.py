"""Exact Hausdorff distances of small objects, many at a time.

An untrained network predicts thousands of specks, each on or near a large gland. A distance transform for each would
take minutes. Here all specks of one object are measured together, pixel by pixel against its border.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.labelled_objects import LabelledObjects, PointLists

__all__ = ["SPECK_PX", "set_distances"]

SPECK_PX = 600
"""Objects up to this area are specks. A matter of speed alone."""
_CHUNK = 2**17
"""Distances computed at once, so that arrays stay in a core's cache."""


def set_distances(
    squared: NDArray[np.int64],
    specks: LabelledObjects,
    others: LabelledObjects,
    pairs: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> None:
    """Compute the squared Hausdorff distances of pairs whose first object is small, and write them into `squared`.

    Args:
        squared: int64[k], written at `positions`; -1 where a pair needs a distance transform.
        specks: The label map's objects that contain the first object of each pair.
        others: The label map's objects that contain the second object of each pair.
        pairs: int64[k, 2], the numbers of both objects of each pair.
        positions: Indices of the pairs to measure.
    """
    ordered = positions[np.argsort(pairs[positions, 1], kind="stable")]
    changes = np.flatnonzero(np.diff(pairs[ordered, 1])) + 1
    for group in np.split(ordered, changes) if len(ordered) else ():
        squared[group] = _against_one(specks, pairs[group, 0], others, int(pairs[group[0], 1]))


def _against_one(
    specks: LabelledObjects, which: NDArray[np.int64], others: LabelledObjects, other: int
) -> NDArray[np.int64]:
    """Return int64[k], squared Hausdorff distances of specks to one object; -1 where a transform is needed.

    The object's farthest pixel from a speck is on the object's border or inside the speck's box. Outside the box, along
    a row or column, the distances to the whole speck grow outwards. No pixel in the box is farther from the speck than
    the box's diagonal, so a farther one on the border settles it.
    """
    is_small = bool(others.areas[other] <= SPECK_PX)
    probes = (others.pixels if is_small else others.border).of(other)
    result = np.empty(len(which), np.int64)
    for first, last in pairwise(_chunk_limits(specks.areas[which], _CHUNK // len(probes))):
        part = which[first:last]
        points, offsets = _gathered(specks.pixels, part)
        distances = _squared_distances(points, probes)
        is_inside = others.index_map[points[:, 0], points[:, 1]] == other + 1
        to_other = np.maximum.reduceat(np.where(is_inside, 0, distances.min(axis=1)), offsets)
        from_other = np.minimum.reduceat(distances, offsets, axis=0).max(axis=1)
        result[first:last] = np.maximum(to_other, from_other)
        if not is_small:
            boxes = specks.boxes[part]
            diagonals = ((boxes[:, 2:] - boxes[:, :2] - 1) ** 2).sum(axis=1)
            result[first:last][from_other < diagonals] = -1
    return result


def _gathered(pixels: PointLists, which: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the pixels int32[N, 2] of some objects, one behind the other, and where each object begins."""
    sizes = pixels.starts[which + 1] - pixels.starts[which]
    offsets = np.cumsum(sizes) - sizes
    return pixels.points[np.repeat(pixels.starts[which] - offsets, sizes) + np.arange(sizes.sum())], offsets


def _chunk_limits(sizes: NDArray[np.int64], limit: int) -> list[int]:
    """Return where to cut a list so that each part sums to about the limit, with at least one element."""
    part = (np.cumsum(sizes) - sizes) // max(limit, 1)
    return [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(sizes)]


def _squared_distances(points: NDArray[np.int32], probes: NDArray[np.int32]) -> NDArray[np.integer[Any]]:
    """Return integer[k, m], squared distances between points int32[k, 2] and probes int32[m, 2].

    A matrix product is as fast on an idle machine only. On a busy one its threads wait for each other: it was ten times
    slower while others trained.
    """
    fits = max(points.max(), probes.max()) < 2**15  # then squares sum to below 2**31
    dtype = np.int32 if fits else np.int64
    points, probes = points.astype(dtype, copy=False), probes.T.astype(dtype, order="C")
    squared: NDArray[np.integer[Any]] = points[:, :1] - probes[0]
    columns = points[:, 1:] - probes[1]
    squared *= squared
    columns *= columns
    squared += columns
    return squared
