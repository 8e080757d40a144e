"""The objects of one label map, with what comparisons need of them, worked out once when first needed.

Objects are counted from 0 in the order of their labels; the labels may have gaps. Shapes: H rows, W columns, n objects.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "LabelledObjects",
    "Overlaps",
    "PairedPixels",
    "PointLists",
    "overlaps",
    "paired_pixels",
    "partners",
]

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PointLists:
    """For each of n objects, a list of pixels; all lists are stored in one array."""

    points: NDArray[np.int32]
    """int32[N, 2], row and column."""
    starts: NDArray[np.int64]
    """int64[n + 1]; object i has `points[starts[i]:starts[i + 1]]`."""

    def of(self, index: int) -> NDArray[np.int32]:
        """Return the pixels of one object, int32[k, 2]."""
        return self.points[self.starts[index] : self.starts[index + 1]]


class LabelledObjects:
    """The objects of an instance label map, with properties that are computed when first used.

    An object is all pixels of one label, connected or not; its holes do not belong to it. Label numbers may be missing.
    Objects are never joined, split or dropped.

    Args:
        labels: integer[H, W], 0 is background, objects above 0.

    Raises:
        ValueError: The array is not two-dimensional, has other types than integers, or a label below 0.
    """

    def __init__(self, labels: IntArray) -> None:
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                "a label map must be integers of two dimensions, "
                f"got {labels.dtype} of shape {labels.shape}; label a mask's components first"
            )
        if labels.size and labels.min() < 0:
            raise ValueError(f"labels must be 0 (background) or above, got {labels.min()}")
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])
        self.values, self.areas, self.index_map = _dense(labels)

    def __len__(self) -> int:
        return len(self.values)

    values: NDArray[np.int64]
    """int64[n], the objects' labels, ascending."""
    areas: NDArray[np.int64]
    """int64[n], pixels of each object."""
    index_map: NDArray[np.int32]
    """int32[H, W], 1 + the object's number, 0 is background."""

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """Bounding boxes, int64[n, 4]: first row, first column, last row + 1, last column + 1."""
        slices = ndimage.find_objects(self.index_map)
        corners = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in slices]
        return np.array(corners, np.int64).reshape(-1, 4)

    @cached_property
    def pixels(self) -> PointLists:
        """All pixels of each object, row by row."""
        flat = np.flatnonzero(self.index_map)
        owner = self.index_map.ravel()[flat]
        # numpy sorts 16-bit keys by radix, several times faster than 32-bit ones.
        keys = owner.astype(np.uint16) if len(self) < 2**16 else owner
        return self._point_lists(flat[np.argsort(keys, kind="stable")], self.areas)

    @cached_property
    def border(self) -> PointLists:
        """The border pixels of each object: those with one of their 4 neighbours outside the object or the image.

        For a point outside the object, the nearest pixel is a border pixel.
        """
        index_map = self.index_map
        inner = np.zeros(self.shape, bool)
        centre = index_map[1:-1, 1:-1]
        inner[1:-1, 1:-1] = (
            (centre == index_map[:-2, 1:-1])
            & (centre == index_map[2:, 1:-1])
            & (centre == index_map[1:-1, :-2])
            & (centre == index_map[1:-1, 2:])
        )
        points = self.pixels.points
        kept = points[~inner[points[:, 0], points[:, 1]]]
        counts = np.bincount(index_map[kept[:, 0], kept[:, 1]], minlength=len(self) + 1)[1:]
        return PointLists(kept, _starts(counts))

    def _point_lists(self, flat: NDArray[np.int64], counts: NDArray[np.int64]) -> PointLists:
        """Return flat pixel numbers, ordered by object, as lists of points."""
        points = np.stack(np.divmod(flat, self.shape[1]), axis=1).astype(np.int32)
        return PointLists(points, _starts(counts))


@dataclass(frozen=True)
class Overlaps:
    """For each object, its partner: the object of the other label map with which it shares the most pixels."""

    partners: NDArray[np.int64]
    """int64[n], the partner's number, -1 without one. Of equals, the one with the lowest label."""
    pixels: NDArray[np.int64]
    """int64[n], pixels shared with the partner, 0 without one."""


@dataclass(frozen=True)
class PairedPixels:
    """All p pairs of objects of two label maps that share pixels, ordered by the object of a, then of b."""

    of_a: NDArray[np.int64]
    """int64[p], the object of the first side."""
    of_b: NDArray[np.int64]
    """int64[p], the object of the second side."""
    pixels: NDArray[np.int64]
    """int64[p], pixels that both share, at least 1."""


def paired_pixels(a: LabelledObjects, b: LabelledObjects) -> PairedPixels:
    """Return all pairs of an object of `a` and one of `b` that share pixels, with the number of these pixels."""
    assert a.shape == b.shape
    both = np.flatnonzero((a.index_map != 0) & (b.index_map != 0))
    codes = (a.index_map.ravel()[both] - np.int64(1)) * len(b) + (b.index_map.ravel()[both] - 1)
    pairs, counts = np.unique(codes, return_counts=True)
    of_a, of_b = np.divmod(pairs, max(len(b), 1))
    return PairedPixels(of_a, of_b, counts.astype(np.int64))


def overlaps(a: LabelledObjects, b: LabelledObjects) -> tuple[Overlaps, Overlaps]:
    """Return the partner in `b` of each object of `a`, and the partner in `a` of each object of `b`."""
    return partners(paired_pixels(a, b), len(a), len(b))


def partners(pairs: PairedPixels, num_a: int, num_b: int) -> tuple[Overlaps, Overlaps]:
    """Return the partner in b of each object of a, and the partner in a of each object of b, from their pairs.

    Args:
        pairs: The pairs of objects that share pixels, from `paired_pixels(a, b)`.
        num_a: Number of objects of a.
        num_b: Number of objects of b.
    """
    of_a = _partners(pairs.of_a, pairs.of_b, pairs.pixels, num_a)
    return of_a, _partners(pairs.of_b, pairs.of_a, pairs.pixels, num_b)


def _partners(
    objects: NDArray[np.int64], others: NDArray[np.int64], counts: NDArray[np.int64], num_objects: int
) -> Overlaps:
    """Return, for each object, the other with the largest count, the lowest number among equals."""
    order = np.lexsort((others, -counts, objects))
    found, first = np.unique(objects[order], return_index=True)
    partners, pixels = np.full(num_objects, -1, np.int64), np.zeros(num_objects, np.int64)
    partners[found], pixels[found] = others[order][first], counts[order][first]
    return Overlaps(partners, pixels)


def _dense(labels: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Return the labels that occur, ascending, the area of each, and the map with 1 to n in their place."""
    highest = int(labels.max(initial=0))
    if highest > 4 * labels.size + 2**16:  # a table of all labels up to here would cost more than a sort
        found, inverse, areas = np.unique(labels, return_inverse=True, return_counts=True)
        is_object = found > 0
        number = np.cumsum(is_object, dtype=np.int32)
        return found[is_object].astype(np.int64), areas[is_object], number[inverse].reshape(labels.shape)
    areas = np.bincount(labels.ravel(), minlength=1)
    values = np.flatnonzero(areas[1:]) + 1
    if len(values) == highest:
        return values, areas[values], labels.astype(np.int32, copy=False)
    table = np.zeros(highest + 1, np.int32)
    table[values] = np.arange(1, len(values) + 1)
    return values, areas[values], table[labels]


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each list starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)])
