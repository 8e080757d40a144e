"""From shapes to a label map.

A pixel belongs to a polygon if its centre lies inside it or on its outline. So the outlines that `searcher predict`
writes along the edges of pixels give the same pixels again. Outlines through the centres of an object's outermost
pixels do, too. Where objects overlap, the smaller one keeps the pixels, and of two of one size the later one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.shapes import MAX_SHAPES, Shape
from searcher.data_pipeline.exceptions import DataError

__all__ = ["Annotation", "covered", "paint"]  # Annotation: plug-ins of earlier releases look for it here

_CHUNK_PX = 1 << 20
"""Pixels of a large object that are looked at together: bounds the memory."""


@dataclass
class _Window:
    """An object's pixels in the image: `mask` is bool[h, w] at (top, left)."""

    mask: NDArray[np.bool_]
    top: int
    left: int


def paint(shapes: Sequence[Shape], height: int, width: int, where: str) -> Annotation:
    """Return the label map of an image in which the given shapes are painted, numbered from 1 in their order.

    Where shapes overlap, the smaller one is on top. Shapes that cover no pixel's centre, or are wholly covered by
    others, are left out with a remark.

    Args:
        shapes: The objects; parts outside the image are cut off.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        where: The annotation file, for messages.

    Raises:
        DataError: A shape lies wholly outside the image, or there are more shapes than an image may have.
    """
    if len(shapes) > MAX_SHAPES:
        raise DataError(
            f"{where}: an image may have {MAX_SHAPES} objects, got {len(shapes)}; cut it into smaller ones"
        )
    areas = [_area(shape) for shape in shapes]
    sizes = [0] * len(shapes)
    numbers = np.zeros((height, width), np.int32)
    num_covered = 0
    for index in sorted(range(len(shapes)), key=lambda index: (-areas[index], index)):
        window = _window(shapes[index], height, width, where)
        sizes[index] = int(np.count_nonzero(window.mask))
        part = numbers[
            window.top : window.top + window.mask.shape[0], window.left : window.left + window.mask.shape[1]
        ]
        num_covered += int(np.count_nonzero(part[window.mask]))
        part[window.mask] = index + 1
    visible = np.unique(numbers)
    visible = visible[visible > 0]
    renumbered = np.zeros(len(shapes) + 1, np.int32)
    renumbered[visible] = np.arange(1, len(visible) + 1)
    classes = {
        int(renumbered[number]): shapes[number - 1].category
        for number in visible.tolist()
        if shapes[number - 1].category
    }
    remarks = _remarks(shapes, sizes, set(visible.tolist()), num_covered, where)
    return Annotation(renumbered[numbers], classes, remarks)


def covered(shapes: Sequence[Shape], height: int, width: int, where: str) -> NDArray[np.bool_]:
    """Return the pixels that at least one of the areas covers: bool[height, width].

    Args:
        shapes: The areas.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        where: The annotation file, for messages.

    Raises:
        DataError: As for `paint`.
    """
    return paint(shapes, height, width, where).labels > 0


def _window(shape: Shape, height: int, width: int, where: str) -> _Window:
    left, top, right, bottom = _box(shape)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise DataError(
            f"{where}: {shape.name}: must lie in its image of {width}x{height} px, got x from {left:g} to {right:g} "
            f"and y from {top:g} to {bottom:g}; export it in pixels of this image"
        )
    y0, y1 = max(int(np.floor(top)), 0), min(int(np.ceil(bottom)) + 1, height)
    x0, x1 = max(int(np.floor(left)), 0), min(int(np.ceil(right)) + 1, width)
    if shape.mask is not None:
        mask = shape.mask[y0 - shape.top : y1 - shape.top, x0 - shape.left : x1 - shape.left]
        return _Window(mask, y0, x0)
    drawn = [part for part in (shape.region, shape.outline) if part is not None]
    for part in drawn:
        shapely.prepare(part)
    x = np.arange(x0, x1) + 0.5
    rows = max(_CHUNK_PX // max(len(x), 1), 1)
    mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for first in range(0, len(mask), rows):
        y = np.arange(y0 + first, min(y0 + first + rows, y1)) + 0.5
        for part in drawn:
            inside = shapely.intersects_xy(part, np.tile(x, len(y)), np.repeat(y, len(x)))
            mask[first : first + rows] |= inside.reshape(len(y), len(x))
    for part in drawn:
        shapely.destroy_prepared(part)
    return _Window(mask, y0, x0)


def _area(shape: Shape) -> float:
    return (
        float(np.count_nonzero(shape.mask)) if shape.mask is not None else float(shapely.area(shape.region))
    )


def _box(shape: Shape) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom."""
    if shape.mask is not None:
        height, width = shape.mask.shape
        return shape.left, shape.top, shape.left + max(width, 1), shape.top + max(height, 1)
    boxes = [shapely.bounds(part) for part in (shape.region, shape.outline) if part is not None]
    left, top = np.nanmin(boxes, axis=0)[:2].tolist()
    right, bottom = np.nanmax(boxes, axis=0)[2:].tolist()
    return left, top, right, bottom


def _remarks(
    shapes: Sequence[Shape], sizes: list[int], visible: set[int], num_covered: int, where: str
) -> tuple[str, ...]:
    remarks = []
    if num_covered:
        remarks.append(
            f"{where}: objects overlap in {num_covered} px; the smaller one of each two keeps them"
        )
    empty = [shapes[index].name for index, size in enumerate(sizes) if not size]
    if empty:
        remarks.append(f"{where}: left out {_some(empty)}, too small to hold a pixel's centre")
    hidden = [shapes[index].name for index, size in enumerate(sizes) if size and index + 1 not in visible]
    if hidden:
        remarks.append(f"{where}: left out {_some(hidden)}, wholly below smaller objects")
    crossing = [shape.name for shape in shapes if shape.crosses_itself]
    if crossing:
        remarks.append(
            f"{where}: the outline of {_some(crossing)} crosses itself; all that it encloses is taken"
        )
    return tuple(remarks)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} objects ({shown}{', ..' if len(names) > 3 else ''})"
