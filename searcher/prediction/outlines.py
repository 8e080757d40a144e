"""Outlines of objects along the edges of their pixels: filled, they are exactly the object's pixels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipeline.tiling import Tile
from searcher.prediction.components import blocks_of
from searcher.prediction.label_map import LabelMap

__all__ = ["Polygon", "Ring", "outline"]

Ring = list[tuple[int, int]]
"""Corners (x, y) in pixels, on pixel edges; the last is not the first again."""

_BLOCK_PX = 2048


class Polygon(NamedTuple):
    """A ring and the holes in it. No ring meets itself, and two have single points in common at most."""

    exterior: Ring
    """Counterclockwise if y points upwards (RFC 7946), which is clockwise on a screen."""
    holes: list[Ring]
    """Clockwise likewise."""


class _Corners(NamedTuple):
    """Where an outline turns. A corner at which two pixels meet diagonally is there twice."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    is_inside_below: NDArray[np.bool_]
    """Whether the pixel to the lower right belongs to the object."""


def outline(labels: LabelMap, number: int, box: Tile) -> list[Polygon]:
    """Return the polygons of an object, one for each part that is connected by pixels' sides.

    Args:
        labels: All objects.
        number: Which of them.
        box: Its bounding box, or a larger window.
    """
    corners = _corners(labels, number, box)
    rings = [simple for ring in _trace(corners) for simple in _simple_rings(ring)]
    exteriors = [ring for ring in rings if _doubled_area(ring) > 0]
    polygons = [Polygon(exterior, []) for exterior in exteriors]
    for ring in rings:
        if _doubled_area(ring) < 0:
            _owner(polygons, ring).holes.append(ring)
    return polygons


def _corners(labels: LabelMap, number: int, box: Tile) -> _Corners:
    parts = []
    for part in blocks_of(
        box.height + 1, box.width + 1, _BLOCK_PX
    ):  # a vertex left of each pixel, and one more
        y, x = box.y + part.y, box.x + part.x
        mask = labels.read(Tile(y - 1, x - 1, part.height + 1, part.width + 1)) == number
        upper_left, upper_right = mask[:-1, :-1], mask[:-1, 1:]
        lower_left, lower_right = mask[1:, :-1], mask[1:, 1:]
        is_odd = upper_left ^ upper_right ^ lower_left ^ lower_right
        is_diagonal = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
        rows, columns = np.nonzero(is_odd | is_diagonal)
        times = np.where(is_diagonal[rows, columns], 2, 1)
        found = (columns + x, rows + y, lower_right[rows, columns])
        parts.append([np.repeat(each, times) for each in found])
    return _Corners(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _trace(corners: _Corners) -> list[Ring]:
    """Return closed rings with the object to the right on a screen; they may meet themselves where it is diagonal.

    Along a row, corners are the ends of the outline's horizontal pieces in turn; along a column of the vertical ones.
    """
    beside = _paired(np.lexsort((corners.x, corners.y)))
    across = _paired(np.lexsort((corners.y, corners.x)))
    x, y = corners.x.tolist(), corners.y.tolist()
    rings: list[Ring] = []
    is_left = [True] * len(x)
    for start in range(len(x)):
        if not is_left[start]:
            continue
        ring: Ring = []
        corner = start
        while is_left[corner]:
            other = beside[corner]
            is_left[corner] = is_left[other] = False
            ring += [(x[corner], y[corner]), (x[other], y[other])]
            corner = across[other]
        goes_right = ring[0] < ring[1]
        left_end = start if goes_right else beside[start]
        rings.append(ring if goes_right == bool(corners.is_inside_below[left_end]) else ring[::-1])
    return rings


def _paired(order: NDArray[np.intp]) -> list[int]:
    partner = np.empty_like(order)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    pairs: list[int] = partner.tolist()
    return pairs


def _simple_rings(ring: Ring) -> list[Ring]:
    """Return a ring cut up at the points that it meets twice."""
    if len(set(ring)) == len(ring):
        return [ring]
    rings: list[Ring] = []
    path: Ring = []
    place: dict[tuple[int, int], int] = {}
    for corner in ring:
        if corner in place:
            loop = path[place[corner] :]
            rings.append(loop)
            del path[place[corner] :]
            for each in loop:
                del place[each]
        place[corner] = len(path)
        path.append(corner)
    return [*rings, path]


def _owner(polygons: list[Polygon], hole: Ring) -> Polygon:
    """Return the polygon that a hole is in: the smallest around a pixel of the object beside the hole."""
    if len(polygons) == 1:
        return polygons[0]
    (x, y), (next_x, next_y) = next(
        (a, b) for a, b in zip(hole, [*hole[1:], hole[0]], strict=True) if a[1] == b[1]
    )
    assert y == next_y
    pixel = (min(x, next_x) + 0.5, y + (0.5 if next_x > x else -0.5))
    around = [each for each in polygons if _is_in(pixel, each.exterior)]
    return min(around, key=lambda each: _doubled_area(each.exterior))


def _is_in(point: tuple[float, float], ring: Ring) -> bool:
    """Return whether a pixel's centre lies in a ring: a ray to the right crosses it an odd number of times."""
    x, y = point
    crossings = 0
    for (ax, ay), (_, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        crossings += (ay > y) != (by > y) and ax > x
    return crossings % 2 == 1


def _doubled_area(ring: Ring) -> int:
    """Return twice the area, above 0 if counterclockwise with y upwards (the shoelace formula)."""
    return sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True))
