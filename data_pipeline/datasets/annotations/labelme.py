"""LabelMe's JSON, one file for each image: polygons, rectangles, circles and masks.

Parts of one object that LabelMe has as several shapes share a `group_id`.
"""

import base64
import binascii
import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.datasets.annotations.shapes import Shape, mask_shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_json, starts_with
from searcher.data_pipeline.exceptions import DataError

__all__ = ["is_labelme", "read_labelme"]

_CIRCLE_CORNERS = 128
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def is_labelme(path: Path) -> bool:
    """Return whether a file starts like the JSON of LabelMe."""
    start = starts_with(path)
    return start.startswith(b"{") and any(
        key in start for key in (b'"shapes"', b'"flags"', b'"imagePath"', b'"imageData"')
    )


def read_labelme(path: Path, height: int, width: int) -> tuple[list[Shape], tuple[str, ...]]:
    """Return the objects in a LabelMe file, and remarks on the parts of the file that are not used.

    Args:
        path: The annotation file.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Raises:
        DataError: The file is not LabelMe's, belongs to an image of another size, or holds an object that cannot be
            used.
    """
    document = read_json(path)
    items = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{path}: must be LabelMe's JSON with a list 'shapes', got none; export it again")
    size = (document.get("imageWidth"), document.get("imageHeight"))
    if None not in size and size != (width, height):
        raise DataError(
            f"{path}: must be of its image's size {width}x{height}, got {size[0]!r:.20}x{size[1]!r:.20}; "
            "annotate the image itself"
        )
    groups: dict[Any, list[Shape]] = {}
    num_left_out = 0
    for number, item in enumerate(items, start=1):
        if item.get("shape_type") in _WITHOUT_AREA:
            num_left_out += 1
            continue
        category = str(item.get("label") or "")
        shape = _shape(path, f"shape {number}", category, item)
        group = item.get("group_id")
        key = number if group is None or shape.region is None else (str(group), category)
        groups.setdefault(key, []).append(shape)
    remarks = (
        (f"{path}: left out {num_left_out} points and lines, which have no area",) if num_left_out else ()
    )
    return [joined(parts) for parts in groups.values()], remarks


def joined(parts: list[Shape]) -> Shape:
    """Return one object made of several shapes, the union of their regions; the shape itself if there is only one."""
    if len(parts) == 1:
        return parts[0]
    regions = [part.region for part in parts if part.region is not None]
    outlines = [part.outline for part in parts if part.outline is not None]
    return replace(
        parts[0],
        region=shapely.union_all(regions),
        outline=shapely.union_all(outlines) if outlines else None,
        crosses_itself=any(part.crosses_itself for part in parts),
    )


def ellipse(
    x: float, y: float, radius_x: float, radius_y: float, angle_deg: float = 0
) -> NDArray[np.float64]:
    """Return the corners of a polygon that approximates an ellipse around (x, y): float64[N, 2] as (x, y).

    Args:
        x: Column of the centre, in pixels.
        y: Row of the centre, in pixels.
        radius_x: Half axis along x before the turn, in pixels.
        radius_y: Half axis along y before the turn, in pixels.
        angle_deg: Turn in degrees, clockwise on a screen.
    """
    turn, angle = np.linspace(0, 2 * math.pi, _CIRCLE_CORNERS, endpoint=False), math.radians(angle_deg)
    along, across = radius_x * np.cos(turn), radius_y * np.sin(turn)
    return np.stack(
        [
            x + along * math.cos(angle) - across * math.sin(angle),
            y + along * math.sin(angle) + across * math.cos(angle),
        ],
        axis=1,
    )


def _shape(path: Path, name: str, category: str, item: dict[str, Any]) -> Shape:
    kind, points = item.get("shape_type", "polygon") or "polygon", item.get("points")
    if kind == "polygon":
        return polygon_shape(str(path), name, category, [[points]])
    if kind not in ("rectangle", "circle", "mask"):
        raise DataError(
            f"{path}: {name}: must be a polygon, rectangle, circle or mask, got {kind!r:.40}; draw a polygon"
        )
    (x0, y0), (x1, y1) = _two_points(path, name, points)
    if kind == "rectangle":
        return polygon_shape(str(path), name, category, [[[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]])
    if kind == "circle":  # its centre, and a point on it
        radius = math.hypot(x1 - x0, y1 - y0)
        return polygon_shape(str(path), name, category, [[ellipse(x0, y0, radius, radius)]])
    mask = _mask(path, name, item.get("mask"))
    return mask_shape(name, category, mask, top=_whole(path, name, y0), left=_whole(path, name, x0))


def _two_points(path: Path, name: str, points: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    try:
        (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: {name}: must have two points (x, y), got something else; draw it again"
        ) from None
    return (x0, y0), (x1, y1)


def _whole(path: Path, name: str, value: float) -> int:
    if not math.isfinite(value) or abs(value) > 2**31:
        raise DataError(
            f"{path}: {name}: coordinates must be pixels of the image, got {value}; draw it again"
        )
    return round(value)


def _mask(path: Path, name: str, text: Any) -> NDArray[np.bool_]:
    """Return the mask that a shape holds as a PNG in base64."""
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(BytesIO(content), formats=["PNG"]) as opened:
            return np.asarray(opened.convert("L")) > 0
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise DataError(
            f"{path}: {name}: a mask must be a PNG in base64, got something else; draw it again"
        ) from None
