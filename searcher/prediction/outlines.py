"""Outlines of objects along the edges of their pixels: filled, they are exactly the object's pixels.

Polygons are valid as OGC, JTS (QuPath) and GEOS (shapely) define it: rings are simple, and no interior is cut in two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.tiling import Tile
from searcher.prediction.components import blocks_of
from searcher.prediction.label_map import LabelMap

__all__ = ["Polygon", "Ring", "outline"]

Ring = list[tuple[int, int]]
"""Corners (x, y) in pixels, on pixel edges; the last is not the first again."""

_BLOCK_PX = 2048


class Polygon(NamedTuple):
    """A ring and the holes in it. No ring touches itself, and two rings touch in single points at most.

    The polygon's pixels are connected by their sides, so points where rings touch never divide its interior.
    """

    exterior: Ring
    """Counterclockwise if y points upwards (RFC 7946), which is clockwise on a screen."""
    holes: list[Ring]
    """The same, clockwise."""


class _Corners(NamedTuple):
    """Where an outline turns. A corner at which two pixels meet diagonally is there twice: once for each pixel."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    is_above: NDArray[np.bool_]
    """Which of the two copies of a corner ends the vertical piece above it. The first ends the horizontal piece on the
    left; both pieces bound the same pixel. Of no meaning for other corners."""
    is_inside_below: NDArray[np.bool_]
    """Whether the pixel to the lower right belongs to the object."""


def outline(labels: LabelMap, number: int, box: Tile) -> list[Polygon]:
    """Return the outline of an object as polygons, one for each part that is connected by pixels' sides.

    Args:
        labels: Label map of all objects.
        number: Label of the object.
        box: Bounding box of the object, or a larger window.
    """
    corners = _corners(labels, number, box)
    rings = [simple for ring in _trace(corners) for simple in _simple_rings(ring)]
    polygons = [Polygon(ring, []) for ring in rings if _doubled_area(ring) > 0]
    holes = [ring for ring in rings if _doubled_area(ring) < 0]
    for hole, owner in zip(holes, _owners([each.exterior for each in polygons], holes), strict=True):
        polygons[owner].holes.append(hole)
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
        is_second = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times) > 0
        vertex_x, vertex_y, is_upper_left, is_inside_below = (
            np.repeat(each, times)
            for each in (columns + x, rows + y, upper_left[rows, columns], lower_right[rows, columns])
        )
        parts.append([vertex_x, vertex_y, is_second ^ is_upper_left, is_inside_below])
    return _Corners(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _trace(corners: _Corners) -> list[Ring]:
    """Return closed rings with the object to the right on a screen; they may meet themselves where it is diagonal.

    Along a row, corners are the ends of the outline's horizontal pieces in turn; along a column of the vertical ones.
    Where two pixels meet diagonally, a ring stays with its pixel: no ring is of two parts of an object.
    """
    beside = _paired(np.lexsort((corners.x, corners.y)))
    across = _paired(np.lexsort((~corners.is_above, corners.y, corners.x)))
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


def _owners(exteriors: list[Ring], holes: list[Ring]) -> list[int]:
    """Return which exterior each hole is in.

    To the left of a hole's leftmost side lie pixels of the part that the hole is in, up to another side. That one is
    the exterior's, or that of a hole further left, which is in the same exterior.
    """
    if len(exteriors) == 1 or not holes:
        return [0] * len(holes)
    ring, x, top, bottom = _vertical_sides([*exteriors, *holes])
    by_x = np.lexsort((x, ring))
    leftmost = by_x[np.searchsorted(ring[by_x], np.arange(len(exteriors), len(exteriors) + len(holes)))]
    rows = np.unique(top[leftmost])
    first, last = np.searchsorted(rows, top), np.searchsorted(rows, bottom)
    side = np.repeat(np.arange(len(x)), last - first)  # each as often as it crosses one of these rows
    row = np.arange(len(side)) + np.repeat(first - np.cumsum(last - first) + (last - first), last - first)
    order = np.lexsort((x[side], row))
    width = int(x.max()) + 1
    place = np.searchsorted(
        row[order] * width + x[side[order]], np.searchsorted(rows, top[leftmost]) * width + x[leftmost]
    )
    beside = ring[side[order[place - 1]]].tolist()
    owners = [*range(len(exteriors)), *([-1] * len(holes))]
    for index in np.argsort(x[leftmost], kind="stable").tolist():
        owners[len(exteriors) + index] = owners[beside[index]]
    return owners[len(exteriors) :]


def _vertical_sides(rings: list[Ring]) -> tuple[NDArray[np.int64], ...]:
    """Return int64[n] each: of the rings' vertical sides, which ring, x, upper and lower end."""
    sizes = [len(ring) for ring in rings]
    corners = np.array([corner for ring in rings for corner in ring], np.int64)
    ring = np.repeat(np.arange(len(rings)), sizes)
    following = np.arange(len(corners)) + 1
    ends = np.cumsum(sizes)
    following[ends - 1] = ends - sizes
    x, y = corners.T
    is_vertical = x == x[following]
    ends_y = np.sort(np.stack([y, y[following]]), axis=0)
    return ring[is_vertical], x[is_vertical], ends_y[0, is_vertical], ends_y[1, is_vertical]


def _doubled_area(ring: Ring) -> int:
    """Return twice the area, above 0 if counterclockwise with y upwards (the shoelace formula)."""
    return sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True))
