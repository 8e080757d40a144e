"""COCO's JSON of instances: polygons, and run lengths, compressed or not.

COCO marks a group of objects as a crowd, CVAT every mask. A crowd is taken as an object if one connected piece has more
than half of its pixels. Otherwise nobody told the objects in it apart: it is not annotated.
"""

import json
import mmap
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations import text_files
from searcher.data_pipeline.datasets.annotations.shapes import Shape, mask_shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_json
from searcher.data_pipeline.datasets.layouts.indexed import Record, open_indexed, read_records
from searcher.data_pipeline.datasets.layouts.layout_source import LayoutSource
from searcher.data_pipeline.exceptions import DataError

__all__ = ["NOT_ANNOTATED", "json_files", "open_coco"]

NOT_ANNOTATED = "not annotated"
"""Category of a crowd of any shape that is no object: what `searcher data export` writes."""
_KEYS = (b'"images"', b'"annotations"')
_SPLIT = re.compile(r"(train|val|valid|validation|test)(?![a-z])", re.I)


def open_coco(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set that COCO files in or below a folder describe; None if there are none.

    Raises:
        DataError: Images are missing, or files are unusable (`strict` only).
    """
    files = [path for path in json_files(root) if _holds(path, _KEYS)]
    if not files:
        return None
    records, problems = read_records(
        files, lambda path: _records(path, split=_split(path) if len(files) > 1 else "")
    )
    return open_indexed(root, "coco", records, problems, strict=strict)


def json_files(root: Path, ending: str = "*.json") -> list[Path]:
    """Return the files with a given ending in a folder and up to two levels below it, sorted, without hidden ones.

    Args:
        root: The folder.
        ending: Pattern of the file names.
    """
    found = [*root.glob(ending), *root.glob(f"*/{ending}"), *root.glob(f"*/*/{ending}")]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _holds(path: Path, keys: tuple[bytes, ...]) -> bool:
    try:
        size = min(path.stat().st_size, text_files.MAX_BYTES)  # of any file below the folder, however large
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            return content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and all(
                content.find(key) >= 0 for key in keys
            )
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _split(path: Path) -> str:
    match = _SPLIT.search(path.stem)
    if match is None:
        return ""
    return {"valid": "val", "validation": "val"}.get(match[1].lower(), match[1].lower())


def _records(path: Path, *, split: str) -> list[Record]:
    document = read_json(path)
    images, annotations = (_list(path, document, key) for key in ("images", "annotations"))
    categories = {
        each.get("id"): str(each.get("name", ""))
        for each in document.get("categories") or []
        if isinstance(each, dict) and isinstance(each.get("id"), int)
    }
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        by_image[json.dumps(annotation.get("image_id"))].append(annotation)
    records = []
    for image in images:
        name, key = image.get("file_name"), json.dumps(image.get("id"))
        if not isinstance(name, str) or not name:
            raise DataError(
                f"{path}: image {key:.40}: must have a file_name, got {name!r:.40}; export it again"
            )
        size = (image.get("width"), image.get("height"))
        whole = size if isinstance(size[0], int) and isinstance(size[1], int) else None
        of_image = by_image.pop(key, [])
        shapes, crowds = (
            partial(_shapes, path, of_image, categories),
            partial(_crowds, path, of_image, categories),
        )
        records.append(Record(path, name, split, whole, shapes, crowds))  # type: ignore[arg-type]
    if by_image:
        raise DataError(
            f"{path}: annotation {next(iter(by_image.values()))[0].get('id')!r:.40}: must be of an image of the file, "
            f"got image_id {next(iter(by_image)):.40}; export it again"
        )
    return records


def _list(path: Path, document: Any, key: str) -> list[dict[str, Any]]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{path}: must be COCO's JSON with a list {key!r}, got none; export it again")
    return found


def _shapes(
    path: Path, annotations: list[dict[str, Any]], categories: dict[Any, str], height: int, width: int
) -> tuple[list[Shape], tuple[str, ...]]:
    shapes: list[Shape] = []
    num_crowds, num_marked, num_boxes = 0, 0, 0
    for annotation in annotations:
        name = f"annotation {annotation.get('id')!r:.40}"
        drawn = annotation.get("segmentation")
        number = annotation.get("category_id")
        category = categories.get(number, "") if isinstance(number, int) else ""
        if not drawn:
            num_boxes += 1
        elif isinstance(drawn, dict):
            mask = _mask(path, name, drawn, height, width)
            if annotation.get("iscrowd") and category == NOT_ANNOTATED:
                num_crowds += 1
            elif not annotation.get("iscrowd"):
                shapes.append(mask_shape(name, category, mask))
            elif _is_one_object(mask):
                num_marked += 1
                shapes.append(mask_shape(name, category, mask))
            else:
                num_crowds += 1
        else:
            shapes.append(polygon_shape(str(path), name, category, _polygons(path, name, drawn)))
    if num_boxes:
        raise DataError(
            f"{path}: every annotation needs a segmentation, got {num_boxes} boxes without one in an image; "
            "export the outlines"
        )
    remarks = []
    if num_crowds:
        remarks.append(f"{path}: {num_crowds} crowds are not annotated, but for objects in them")
    if num_marked:
        remarks.append(
            f"{path}: {num_marked} annotations are marked as crowds, as CVAT marks every mask; "
            "each is of one piece, and taken as an object"
        )
    return shapes, tuple(remarks)


def _crowds(path: Path, annotations: list[dict[str, Any]], categories: dict[Any, str]) -> list[Shape]:
    """Return the crowds that are no objects."""
    found = []
    for annotation in annotations:
        drawn = annotation.get("segmentation")
        if not (annotation.get("iscrowd") and isinstance(drawn, dict)):
            continue
        name, size = f"annotation {annotation.get('id')!r:.40}", drawn.get("size")
        if isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
            mask = _mask(path, name, drawn, *size)
            is_named = categories.get(annotation.get("category_id")) == NOT_ANNOTATED
            if mask.any() and (is_named or not _is_one_object(mask)):
                found.append(mask_shape(name, "", mask))
    return found


def _is_one_object(mask: NDArray[np.bool_]) -> bool:
    """Return whether one connected piece has more than half of a mask's pixels."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return bool(len(areas)) and 2 * int(areas.max()) > int(areas.sum())


def _polygons(path: Path, name: str, drawn: Any) -> list[list[NDArray[np.float64]]]:
    try:
        flat = [np.asarray(polygon, np.float64) for polygon in drawn]
        return [[polygon.reshape(-1, 2)] for polygon in flat]
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: {name}: a segmentation must be lists of numbers x, y, x, .., got something else; export it again"
        ) from None


def _mask(path: Path, name: str, drawn: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Return bool[height, width] of run lengths."""
    size, counts = drawn.get("size"), drawn.get("counts")
    if size != [height, width]:
        raise DataError(
            f"{path}: {name}: run lengths must be of the image's size [{height}, {width}], got {size!r:.60}; "
            "export them again"
        )
    if isinstance(counts, str):
        counts = _runs(path, name, counts)
    runs: list[int] = counts if isinstance(counts, list) and all(type(run) is int for run in counts) else []
    if not runs or min(runs) < 0 or sum(runs) != height * width:
        raise DataError(
            f"{path}: {name}: run lengths must add up to the image's {height * width} px, got others; "
            "export them again"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(path: Path, name: str, text: str) -> list[int]:
    """Return the run lengths that COCO's compressed text stands for.

    pycocotools decodes as well, and does not look at the text's end or the image's: a damaged one writes over memory.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text.encode("utf-8", "replace"):
        code = character - 48
        if not 0 <= code < 64 or shift > 60:
            break
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    else:
        if not shift:
            return runs
    raise DataError(
        f"{path}: {name}: run lengths must be COCO's compressed text, got another; export them again"
    )
