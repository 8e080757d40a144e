"""Size, shape and appearance of every object, gathered block by block: each pixel is read once, in objects of any size.

Sums add up over blocks; means and second moments are joined by `Moments`; a convex hull is that of the blocks' hulls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.appearance import LUMEN_DENSITY, Intensities, Staining
from searcher.prediction.label_map import LabelMap
from searcher.prediction.moments import Moments

__all__ = ["LUMEN_DENSITY", "Column", "measure_objects"]

Column = NDArray[Any]

_HALO_PX = 2
_SIDE, _DIAGONAL = 2, 10
_NEIGHBOURS = {
    (row, column): _DIAGONAL if row and column else _SIDE
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
    if row or column
}


def measure_objects(
    labels: LabelMap,
    raster: Raster,
    pixel_size_um: float | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    is_stained: bool = True,
) -> dict[str, Column]:
    """Return a table of all objects, an array of n values for each column; docs/predict.md explains the columns.

    Args:
        labels: Label map of the objects, 1 to n.
        raster: The image, of the same size: uint8 RGB if `is_stained`, otherwise any channels with their own values.
        pixel_size_um: Side of a pixel in micrometres; None for no columns in um.
        progress: Called with the numbers of finished and of all blocks.
        is_stained: Whether the image shows stained tissue in bright field: then stains and lumens are measured,
            otherwise the intensity of each channel.
    """
    channels = raster.header.channels
    appearance = Staining(len(labels)) if is_stained else Intensities(len(labels), channels)
    gathered = _Gathered.empty(len(labels), appearance)
    blocks = list(labels.blocks())
    for num_done, block in enumerate(blocks, start=1):
        _gather(gathered, labels, raster, block)
        if progress is not None:
            progress(num_done, len(blocks))
    table = _table(gathered, labels)
    return table | ({} if pixel_size_um is None else _in_um(table, pixel_size_um))


@dataclass
class _Gathered:
    """What is known of the objects so far; index 0 is label 1."""

    position: Moments
    """Of rows and columns."""
    appearance: Staining | Intensities
    perimeter: NDArray[np.float64]
    boxes: NDArray[np.int64]
    """int64[n, 4], first row and column, row and column behind the last."""
    hulls: list[list[NDArray[np.int32]]] = field(default_factory=list)
    """Corners (column, row) of the hulls of an object's pixels, by block."""

    @classmethod
    def empty(cls, num: int, appearance: Staining | Intensities) -> "_Gathered":
        boxes = np.zeros((num, 4), np.int64)
        boxes[:, :2] = np.iinfo(np.int64).max
        return cls(
            Moments.empty(num, 2),
            appearance,
            np.zeros(num),
            boxes,
            [[] for _ in range(num)],
        )


def _gather(gathered: _Gathered, labels: LabelMap, raster: Raster, block: Tile) -> None:
    grown = labels.read(
        Tile(
            block.y - _HALO_PX,
            block.x - _HALO_PX,
            block.height + 2 * _HALO_PX,
            block.width + 2 * _HALO_PX,
        )
    )
    inner = grown[_HALO_PX:-_HALO_PX, _HALO_PX:-_HALO_PX]
    is_here = np.bincount(inner.ravel(), minlength=len(labels) + 1) > 0
    is_here[0] = False
    objects = np.flatnonzero(is_here) - 1
    if not len(objects):
        return
    compact = np.where(is_here, np.cumsum(is_here), 0).astype(np.int32)
    found = compact[inner]
    rows, columns = np.nonzero(found)
    group = found[rows, columns] - 1
    gathered.position.add(
        objects, Moments.of(group, len(objects), rows + float(block.y), columns + float(block.x))
    )
    gathered.appearance.add(objects, group, raster.read(block)[rows, columns])
    for index, box in zip(objects, find_objects(found), strict=True):
        (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
        there = gathered.boxes[index]
        there[:2] = np.minimum(there[:2], (top + block.y, left + block.x))
        there[2:] = np.maximum(there[2:], (bottom + block.y, right + block.x))
    _gather_border(gathered, compact[grown], objects, block)


def _gather_border(
    gathered: _Gathered, grown: NDArray[np.int32], objects: NDArray[np.intp], block: Tile
) -> None:
    """Gather perimeter and hull from the pixels that have a 4-neighbour of another label."""
    middle = grown[1:-1, 1:-1]
    is_border = middle > 0
    is_border &= (
        (grown[:-2, 1:-1] != middle)
        | (grown[2:, 1:-1] != middle)
        | (grown[1:-1, :-2] != middle)
        | (grown[1:-1, 2:] != middle)
    )
    rows, columns = np.nonzero(is_border[1:-1, 1:-1])
    label = middle[rows + 1, columns + 1]
    code = np.ones(len(rows), np.int64)
    for (down, right), weight in _NEIGHBOURS.items():
        y, x = rows + 1 + down, columns + 1 + right
        code += weight * (is_border[y, x] & (middle[y, x] == label))
    gathered.perimeter[objects] += np.bincount(label - 1, _LENGTH_OF_CODE[code], len(objects))
    order = np.argsort(label, kind="stable")
    points = np.stack([columns + block.x, rows + block.y], axis=1).astype(np.int32)[order]
    ends = np.cumsum(np.bincount(label - 1, minlength=len(objects)))
    for index, part in zip(objects, np.split(points, ends[:-1]), strict=True):
        if len(part):  # none of an object that is larger than the block around
            gathered.hulls[index].append(cv2.convexHull(part)[:, 0])


def _length_of_code() -> NDArray[np.float64]:
    """Return what a border pixel adds to the perimeter by its border neighbours: 1, 2 at a side, 10 at a corner.

    Benkrid and Crookes, Design and FPGA Implementation of a Perimeter Estimator, as in `skimage.measure.perimeter`.
    """
    lengths = np.zeros(1 + 4 * _SIDE + 4 * _DIAGONAL + 1)
    lengths[[5, 7, 15, 17, 25, 27]] = 1
    lengths[[21, 33]] = np.sqrt(2)
    lengths[[13, 23]] = (1 + np.sqrt(2)) / 2
    return lengths


_LENGTH_OF_CODE = _length_of_code()


def _table(gathered: _Gathered, labels: LabelMap) -> dict[str, Column]:
    area = gathered.position.count
    row_row, row_column, column_column = (
        gathered.position.spread[:, i, j] / np.maximum(area, 1) for i, j in ((0, 0), (0, 1), (1, 1))
    )
    middle = (row_row + column_column) / 2
    off = np.hypot((row_row - column_column) / 2, row_column)
    largest, smallest = middle + off, np.maximum(middle - off, 0)
    convex = np.array([_pixels_in_hull(parts) for parts in gathered.hulls])
    perimeter = gathered.perimeter
    top, left, bottom, right = gathered.boxes.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "label": np.arange(1, len(area) + 1),
            "centroid_x_px": gathered.position.mean[:, 1] + 0.5,
            "centroid_y_px": gathered.position.mean[:, 0] + 0.5,
            "bbox_x_px": left,
            "bbox_y_px": top,
            "bbox_width_px": right - left,
            "bbox_height_px": bottom - top,
            "area_px": area.astype(np.int64),
            "perimeter_px": perimeter,
            "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
            "major_axis_px": 4 * np.sqrt(largest),
            "minor_axis_px": 4 * np.sqrt(smallest),
            "eccentricity": np.where(largest > 0, np.sqrt(1 - smallest / largest), 0.0),
            # Rows count downwards: a positive covariance is an axis that falls to the right.
            "orientation_deg": np.degrees(0.5 * np.arctan2(-2 * row_column, column_column - row_row)),
            "solidity": area / convex if len(area) else area,
            "circularity": np.where(perimeter > 0, 4 * np.pi * area / perimeter**2, np.nan),
            **gathered.appearance.columns(area),
            "score": labels.scores,
            "touches_edge": (
                (top == 0) | (left == 0) | (bottom == labels.height) | (right == labels.width)
            ).astype(np.int64),
        }


def _in_um(table: dict[str, Column], pixel_size_um: float) -> dict[str, Column]:
    """Return the same lengths and areas in um and um2."""
    lengths = ("centroid_x", "centroid_y", "perimeter", "equivalent_diameter", "major_axis", "minor_axis")
    return {f"{name}_um": table[f"{name}_px"] * pixel_size_um for name in lengths} | {
        f"{name}_um2": table[f"{name}_px"] * pixel_size_um**2
        for name in ("area", "lumen_area")
        if f"{name}_px" in table
    }


def _pixels_in_hull(parts: list[NDArray[np.int32]]) -> int:
    """Return how many pixels have their centre in the convex hull of an object, or on its edge.

    The hull is that of the middles of all pixels' sides, as in `skimage.morphology.convex_hull_image`. Everything is
    doubled, so that it is whole.
    """
    corners = 2 * cv2.convexHull(np.concatenate(parts))[:, 0]
    steps = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)], np.int32)
    hull = cv2.convexHull((corners[:, None] + steps).reshape(-1, 2))[:, 0].astype(np.int64)
    hull = np.roll(hull, -int(hull[:, 1].argmin()), axis=0)
    lowest = int(hull[:, 1].argmax())
    one = hull[: lowest + 1]
    other = np.concatenate([hull[lowest:], hull[:1]])[::-1]
    # No pixel's centre lies in the hull's first or last row, which are sides: there is one x to each y.
    y = np.arange(hull[0, 1] + 1, hull[lowest, 1], 2)
    ends = np.stack([np.interp(y, chain[:, 1], chain[:, 0]) for chain in (one, other)])
    tolerance = 1e-9 * (1 + np.abs(ends).max())
    first, last = np.ceil(ends.min(axis=0) / 2 - tolerance), np.floor(ends.max(axis=0) / 2 + tolerance)
    return int((last - first + 1).sum())
