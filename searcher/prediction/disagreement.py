"""How much several predictions of an image disagree about the objects in it: those of folds, or of mirrored views."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.scratch import Closing
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.label_map import LabelMap

__all__ = [
    "Comparison",
    "Disagreement",
    "Mirrored",
    "compare_predictions",
    "disagreement_of",
    "disputed_region",
    "read_mirrored",
]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_SAME_IOU = 0.5
"""Least IoU of two outlines of one object."""
_MAX_CENTRES = 200
"""Windows that are looked at for a region."""


class Mirrored(Closing):
    """A raster that shows another one upside down, from right to left, or both.

    Args:
        source: The other raster; it stays open.
        rows: Whether rows are in reverse order.
        columns: Whether columns are in reverse order.
    """

    def __init__(self, source: Raster, *, rows: bool, columns: bool) -> None:
        self._source = source
        self._rows, self._columns = rows, columns
        self.height, self.width = source.height, source.width
        self.header, self.pixel_size_um = source.header, source.pixel_size_um

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return the pixels of a window, [h, w, C]."""
        there = _mirrored(window, self.height, self.width, rows=self._rows, columns=self._columns)
        return _turned(self._source.read(there), rows=self._rows, columns=self._columns)


def read_mirrored(labels: LabelMap, window: Tile, *, rows: bool, columns: bool) -> NDArray[np.int32]:
    """Return the labels of a window of an image, int32[h, w], from the label map of its mirrored version.

    Args:
        labels: Label map of the mirrored image.
        window: The window, in the image that is not mirrored.
        rows: Whether rows are in reverse order in the mirrored version.
        columns: Whether columns are in reverse order in the mirrored version.
    """
    there = _mirrored(window, labels.height, labels.width, rows=rows, columns=columns)
    return _turned(labels.read(there), rows=rows, columns=columns)


def _mirrored(window: Tile, height: int, width: int, *, rows: bool, columns: bool) -> Tile:
    return Tile(
        height - window.y - window.height if rows else window.y,
        width - window.x - window.width if columns else window.x,
        window.height,
        window.width,
    )


def _turned(array: NDArray[_Scalar], *, rows: bool, columns: bool) -> NDArray[_Scalar]:
    return np.ascontiguousarray(array[:: -1 if rows else 1, :: -1 if columns else 1])


@dataclass(frozen=True)
class Comparison:
    """The comparison of one other prediction of an image with ours."""

    best_iou: NDArray[np.float64]
    """float64[n], of each of our n objects: its largest IoU with an object of the other prediction."""
    missed_at: NDArray[np.float64]
    """float64[m, 2], row and column of the centres of the other's objects that are none of ours."""


@dataclass(frozen=True)
class Disagreement:
    """How much predictions of an image disagree: 0 if they are the same, 1 if no object is in two of them."""

    of_objects: NDArray[np.float64]
    """float64[n]: 1 minus the mean, over the other predictions, of the object's best IoU there."""
    num_missed: float
    """Mean number of another prediction's objects that are none of ours."""
    missed_at: NDArray[np.float64]
    """float64[m, 2], centres of those of all other predictions."""
    num_others: int
    """Other predictions."""

    @property
    def of_image(self) -> float:
        """Mean disagreement over our objects and the missed ones (which count 1); 0 without any object."""
        num = len(self.of_objects) + self.num_missed
        return float((self.of_objects.sum() + self.num_missed) / num) if num else 0.0


def compare_predictions(ours: LabelMap, theirs: Callable[[Tile], NDArray[np.int32]]) -> Comparison:
    """Return the comparison of another prediction of an image with ours, computed block by block.

    Args:
        ours: Label map of our objects, 1 to n.
        theirs: Function that returns the other prediction's labels of a window, int32[h, w], 1 to m.
    """
    pairs: dict[tuple[int, int], int] = {}
    our_areas = np.zeros(len(ours) + 1, np.int64)
    sums = np.zeros((0, 3), np.float64)  # of each of theirs: pixels, rows, columns
    for block in ours.blocks():
        mine, other = ours.read(block), theirs(block)
        our_areas += np.bincount(mine.ravel(), minlength=len(our_areas))
        sums = _with_moments(sums, other, block)
        both = (mine > 0) & (other > 0)
        codes, counts = np.unique(np.stack([mine[both], other[both]], axis=1), axis=0, return_counts=True)
        for (a, b), count in zip(codes.tolist(), counts.tolist(), strict=True):
            pairs[a, b] = pairs.get((a, b), 0) + count
    best, best_of_theirs = np.zeros(len(our_areas)), np.zeros(len(sums))
    for (a, b), count in pairs.items():
        iou = count / (our_areas[a] + sums[b, 0] - count)
        best[a], best_of_theirs[b] = max(best[a], iou), max(best_of_theirs[b], iou)
    is_missed = (best_of_theirs < _SAME_IOU) & (sums[:, 0] > 0)
    is_missed[:1] = False
    return Comparison(best[1:], sums[is_missed, 1:] / sums[is_missed, :1])


def _with_moments(sums: NDArray[np.float64], labels: NDArray[np.int32], block: Tile) -> NDArray[np.float64]:
    """Return the sums with those of another block: of each label its pixels, and its rows and columns."""
    num = max(len(sums), int(labels.max(initial=0)) + 1)
    grown = np.zeros((num, 3))
    grown[: len(sums)] = sums
    flat = labels.ravel()
    rows, columns = np.divmod(np.arange(flat.size), block.width)
    for axis, weights in enumerate((None, rows + block.y + 0.5, columns + block.x + 0.5)):
        grown[:, axis] += np.bincount(flat, weights=weights, minlength=num)
    return grown


def disagreement_of(comparisons: Sequence[Comparison]) -> Disagreement:
    """Return how much our prediction of an image disagrees with others.

    Args:
        comparisons: The comparison with each of the others, at least one.
    """
    missed = np.concatenate([each.missed_at for each in comparisons])
    best = np.mean([each.best_iou for each in comparisons], axis=0)
    return Disagreement(1.0 - best, len(missed) / len(comparisons), missed, len(comparisons))


def disputed_region(
    found: Disagreement, centres: NDArray[np.float64], height: int, width: int, *, side_px: int
) -> Tile:
    """Return the window of an image in which predictions disagree most; the whole image if it is not larger.

    Args:
        found: The disagreement of the predictions.
        centres: float64[n, 2], row and column of the centre of each of our objects.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        side_px: Side of the window, in pixels.
    """
    h, w = min(height, side_px), min(width, side_px)
    points = np.concatenate([centres.reshape(-1, 2), found.missed_at])
    weights = np.concatenate([found.of_objects, np.full(len(found.missed_at), 1 / found.num_others)])
    best, most = Tile((height - h) // 2, (width - w) // 2, h, w), 0.0
    for row, column in points[np.argsort(-weights, kind="stable")[:_MAX_CENTRES]]:
        y, x = (
            int(min(max(at - size / 2, 0), whole - size))
            for at, size, whole in ((row, h, height), (column, w, width))
        )
        inside = (points[:, 0] >= y) & (points[:, 0] < y + h) & (points[:, 1] >= x) & (points[:, 1] < x + w)
        total = float(weights[inside].sum())
        if total > most + 1e-12:
            best, most = Tile(y, x, h, w), total
    return best
