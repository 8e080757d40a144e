"""CVAT's XML for images: polygons, boxes, ellipses and masks."""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from searcher.data_pipeline.datasets.annotations.labelme import ellipse, joined
from searcher.data_pipeline.datasets.annotations.shapes import Shape, mask_shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_xml, starts_with
from searcher.data_pipeline.datasets.layouts.coco import json_files
from searcher.data_pipeline.datasets.layouts.indexed import Record, open_indexed, read_records
from searcher.data_pipeline.datasets.layouts.layout_source import LayoutSource
from searcher.data_pipeline.exceptions import DataError

__all__ = ["open_cvat"]

_WITHOUT_AREA = ("polyline", "points", "tag", "skeleton", "cuboid")


def open_cvat(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set that CVAT's XML files in or below a folder describe; None if there are none.

    Raises:
        DataError: Images are missing, or files are unusable (`strict` only).
    """
    files = [path for path in json_files(root, "*.xml") if b"<annotations" in starts_with(path)]
    if not files:
        return None
    records, problems = read_records(files, _records)
    return open_indexed(root, "cvat", records, problems, strict=strict)


def _records(path: Path) -> list[Record]:
    document = read_xml(path)
    if document.find("track") is not None:
        raise DataError(
            f"{path}: must be of images, got the tracks of a video; export it as 'CVAT for images'"
        )
    records = []
    for image in document.iter("image"):
        name = image.get("name", "")
        if not name:
            raise DataError(f"{path}: image {image.get('id')}: must have a name, got none; export it again")
        try:
            size = (int(image.get("width", "")), int(image.get("height", "")))
        except ValueError:
            raise DataError(
                f"{path}: image {name[:120]!r}: must have its size, got none; export it again"
            ) from None
        subset = image.get("subset", "").lower()
        split = {"default": "", "valid": "val", "validation": "val"}.get(subset, subset)
        records.append(Record(path, name, split, size, partial(_shapes, path, image)))
    return records


def _shapes(path: Path, image: Element, height: int, width: int) -> tuple[list[Shape], tuple[str, ...]]:
    groups: dict[tuple[str, ...], list[Shape]] = {}
    num_left_out = 0
    for number, item in enumerate(image, start=1):
        if item.tag in _WITHOUT_AREA:
            num_left_out += 1
            continue
        category = item.get("label", "")
        shape = _shape(path, f"image {image.get('id')}, {item.tag} {number}", category, item, height, width)
        group = item.get("group_id", "0")
        key = (group, category) if group != "0" and shape.region is not None else (str(number),)
        groups.setdefault(key, []).append(shape)
    remarks = (f"{path}: left out {num_left_out} points, lines and tags, which have no area",)
    return [joined(parts) for parts in groups.values()], remarks if num_left_out else ()


def _shape(path: Path, name: str, category: str, item: Element, height: int, width: int) -> Shape:
    if item.tag == "polygon":
        points = [pair.split(",") for pair in item.get("points", "").split(";") if pair]
        return polygon_shape(str(path), name, category, [[points]])
    if item.tag == "box":
        x0, y0, x1, y1 = (_number(path, name, item, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return polygon_shape(str(path), name, category, [[[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]])
    if item.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(path, name, item, key) for key in ("cx", "cy", "rx", "ry"))
        turn = float(item.get("rotation", "0") or 0)
        return polygon_shape(str(path), name, category, [[ellipse(x, y, radius_x, radius_y, turn)]])
    if item.tag == "mask":
        return _mask(path, name, category, item, height, width)
    raise DataError(
        f"{path}: {name}: must be a polygon, box, ellipse or mask, got {item.tag:.40}; draw a polygon"
    )


def _number(path: Path, name: str, item: Element, key: str) -> float:
    try:
        return float(item.get(key, ""))
    except ValueError:
        raise DataError(
            f"{path}: {name}: {key} must be a number, got {item.get(key)!r:.40}; export it again"
        ) from None


def _mask(path: Path, name: str, category: str, item: Element, height: int, width: int) -> Shape:
    left, top, mask_width, mask_height = (
        round(_number(path, name, item, key)) for key in ("left", "top", "width", "height")
    )
    if not (left >= 0 and top >= 0 and 0 < mask_width <= width - left and 0 < mask_height <= height - top):
        raise DataError(
            f"{path}: {name}: must lie in its image of {width}x{height} px, got {mask_width}x{mask_height} px at "
            f"({left}, {top}); export it again"
        )
    try:
        runs = [int(run) for run in item.get("rle", "").split(",")]
    except ValueError:
        runs = []
    if not runs or min(runs) < 0 or sum(runs) != mask_width * mask_height:
        raise DataError(
            f"{path}: {name}: run lengths must add up to {mask_width * mask_height} px, got others; export it again"
        )
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(mask_height, mask_width)
    return mask_shape(name, category, mask, top=top, left=left)
