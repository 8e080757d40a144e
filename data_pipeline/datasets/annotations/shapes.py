"""Objects as other programs draw them: polygons and small masks, checked before anything is painted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError

__all__ = ["MAX_SHAPES", "Shape", "mask_shape", "polygon_shape"]

MAX_SHAPES = 65535
"""Most objects that one image may have, as everywhere in the data pipeline."""

_MAX_COORDINATE_PX = 1e7
"""No image is that wide; what lies beyond is a broken file."""
_MIN_POINTS = 3
_MAX_DOUBT = 0.05
"""Part of a self-crossing object's area on which the two usual ways to fill it may disagree."""


@dataclass(frozen=True)
class Shape:
    """One object of an annotation file, as polygons (`region`) or as pixels (`mask`)."""

    name: str
    """Where in its file it stands, such as `feature 3`."""
    category: str
    """Class that the file gives it; empty where it gives none."""
    region: shapely.Geometry | None = None
    """Valid polygon or multipolygon, in pixels: (0, 0) is the upper left corner of the first pixel."""
    outline: shapely.Geometry | None = None
    """Lines that belong to the object as well, where it is drawn as thin as a line."""
    mask: NDArray[np.bool_] | None = None
    """bool[h, w], the object's pixels in a window of the image."""
    top: int = 0
    """First row of the window."""
    left: int = 0
    """First column of the window."""
    crosses_itself: bool = False
    """Whether an outline of it crosses itself."""


def polygon_shape(where: str, name: str, category: str, polygons: Sequence[Sequence[Any]]) -> Shape:
    """Return the object that consists of the given polygons.

    An outline that crosses itself is filled by the nonzero rule. A polygon as thin as a line covers the pixels whose
    centres it touches. One with fewer than three points covers none.

    Args:
        where: The file, for messages.
        name: Name of the object, for messages.
        category: Class of the object; empty for none.
        polygons: Each polygon is a list of rings: the outline, then the holes. A ring is a list of points (x, y, ..) in
            pixels.

    Raises:
        DataError: Coordinates are no numbers, not finite or far too large, or an outline crosses itself so that its
            inside is ambiguous.
    """
    if not polygons:
        raise DataError(f"{where}: {name}: must have an outline, got none; draw it again or remove it")
    drawn = [_rings(where, name, rings) for rings in polygons]
    parts = [shapely.Polygon(exterior, holes) for exterior, holes in drawn if len(exterior) >= _MIN_POINTS]
    if not parts:
        return mask_shape(name, category, np.zeros((0, 0), np.bool_))
    if all(part.is_valid for part in parts):
        region = parts[0] if len(parts) == 1 else shapely.union_all(parts)
        return Shape(name, category, region)
    crosses = any("Self-intersection" in shapely.is_valid_reason(part) for part in parts)
    region = shapely.union_all([part if part.is_valid else _made_valid(where, name, part) for part in parts])
    lines = shapely.union_all(
        [shapely.LineString(part.exterior.coords) for part in parts if not part.is_valid]
    )
    return Shape(name, category, region, lines, crosses_itself=crosses and not region.is_empty)


def mask_shape(name: str, category: str, mask: NDArray[np.bool_], *, top: int = 0, left: int = 0) -> Shape:
    """Return the object that consists of the given pixels, its mask cropped to its bounding box.

    Args:
        name: Name of the object, for messages.
        category: Class of the object; empty for none.
        mask: bool[h, w], true on the object's pixels.
        top: Row of the mask's first pixel in the image.
        left: Column of the mask's first pixel in the image.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Shape(name, category, mask=np.zeros((0, 0), np.bool_), top=top, left=left)
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Shape(name, category, mask=mask[box], top=top + int(rows[0]), left=left + int(columns[0]))


def _rings(
    where: str, name: str, rings: Sequence[Any]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    if not isinstance(rings, (list, tuple)) or not len(rings):
        raise DataError(
            f"{where}: {name}: a polygon must be a list of rings, got {rings!r:.40}; export it again"
        )
    exterior, *holes = (_points(where, name, ring) for ring in rings)
    return exterior, [hole for hole in holes if len(hole) >= _MIN_POINTS]


def _points(where: str, name: str, ring: Any) -> NDArray[np.float64]:
    """Return float64[N, 2], (x, y) of a ring's corners."""
    try:
        points = np.asarray([(float(point[0]), float(point[1])) for point in ring], np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        raise DataError(
            f"{where}: {name}: an outline must be a list of points (x, y), got something else; export it again"
        ) from None
    if not len(points):
        return np.zeros((0, 2))
    if not np.isfinite(points).all():
        raise DataError(
            f"{where}: {name}: coordinates must be finite numbers, got {points[~np.isfinite(points)][0]}; "
            "draw it again or remove it"
        )
    if (largest := float(np.abs(points).max())) > _MAX_COORDINATE_PX:
        raise DataError(
            f"{where}: {name}: coordinates must be pixels below {_MAX_COORDINATE_PX:.0f}, got {largest:.6g}; "
            "export it in pixels of the image"
        )
    return points


def _made_valid(where: str, name: str, region: shapely.Geometry) -> shapely.Geometry:
    by_turns = shapely.make_valid(region, method="structure", keep_collapsed=False)
    by_parity = shapely.make_valid(region, method="linework")
    doubt = abs(by_turns.area - by_parity.area)
    if doubt > _MAX_DOUBT * max(by_turns.area, by_parity.area):
        raise DataError(
            f"{where}: {name}: an outline must not cross itself, got {doubt:.0f} px that may be inside or not; "
            "draw it again"
        )
    return by_turns
