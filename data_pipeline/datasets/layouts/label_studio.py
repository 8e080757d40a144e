"""Label Studio's JSON: polygons, rectangles, ellipses and brush strokes, in per cent of the image."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.labelme import ellipse
from searcher.data_pipeline.datasets.annotations.shapes import Shape, mask_shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_json, starts_with
from searcher.data_pipeline.datasets.layouts.coco import json_files
from searcher.data_pipeline.datasets.layouts.folder_scan import find_image, scan
from searcher.data_pipeline.datasets.layouts.indexed import Record, open_indexed
from searcher.data_pipeline.datasets.layouts.layout_source import LayoutSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES

__all__ = ["open_label_studio"]

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_KINDS = (
    "polygonlabels",
    "rectanglelabels",
    "ellipselabels",
    "brushlabels",
    "polygon",
    "rectangle",
    "ellipse",
    "brush",
)


def open_label_studio(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set that Label Studio's JSON files in or below a folder describe; None if there are none.

    Raises:
        DataError: Images are missing, or files are unusable (`strict` only).
    """
    files = [path for path in json_files(root) if _is_export(path)]
    if not files:
        return None
    images = scan(root, IMAGE_SUFFIXES)
    records: list[Record] = []
    problems: list[str] = []
    for path in files:
        try:
            for number, task in enumerate(read_json(path), start=1):
                name = _image_of(path, number, task)
                bare = Path(name).with_name(_UPLOAD.sub("", Path(name).name)).as_posix() if name else name
                known = name if find_image(images, name) else bare
                records.append(Record(path, known, "", None, partial(_shapes, path, number, task)))
        except DataError as error:
            problems.extend(error.problems)
    return open_indexed(root, "label studio", records, problems, strict=strict)


def _is_export(path: Path) -> bool:
    start = starts_with(path, 1 << 16)
    return start.startswith(b"[") and any(
        key in start for key in (b'"original_width"', b'"annotations"', b'"annotation_id"', b'"completions"')
    )


def _image_of(path: Path, number: int, task: Any) -> str:
    """Return what a task calls its image; uploads have eight digits put before their name."""
    data = task.get("data", task) if isinstance(task, dict) else None
    texts = (
        [value for value in (data or {}).values() if isinstance(value, str)] if isinstance(data, dict) else []
    )
    for text in texts:
        bare = text.partition("?d=")[2] or text.partition("?")[0]
        if Path(bare).suffix.lower() in IMAGE_SUFFIXES:
            return bare
    raise DataError(f"{path}: task {number}: must name an image, got none; export it again")


def _shapes(
    path: Path, number: int, task: dict[str, Any], height: int, width: int
) -> tuple[list[Shape], tuple[str, ...]]:
    results, num_others = _results(path, number, task)
    shapes: list[Shape] = []
    for index, result in enumerate(results, start=1):
        value = result.get("value", result)
        kind = str(result.get("type", "")).lower() or next((key for key in _KINDS if key in value), "")
        if kind not in _KINDS:
            continue
        name = f"task {number}, region {index}"
        size = (result.get("original_width"), result.get("original_height"))
        if size != (width, height):
            raise DataError(
                f"{path}: {name}: must be of its image's size {width}x{height}, got {size[0]!r:.20}x{size[1]!r:.20}; "
                "annotate the image itself"
            )
        names: list[Any] = next((value[key] for key in _KINDS if isinstance(value.get(key), list)), [])
        category = str(names[0]) if names else ""
        shapes.append(_shape(path, name, category, kind, value, height, width))
    remark = f"{path}: task {number} has {num_others + 1} annotations; the first is taken"
    return shapes, (remark,) if num_others else ()


def _results(path: Path, number: int, task: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the regions of a task's first annotation that was not cancelled, and the number of its other ones."""
    annotations = task.get("annotations", task.get("completions"))
    if isinstance(annotations, list):
        kept = [
            each
            for each in annotations
            if isinstance(each, dict)
            and not each.get("was_cancelled")
            and isinstance(each.get("result"), list)
        ]
        if not kept:
            raise DataError(
                f"{path}: task {number}: must be annotated, got no annotation; annotate or remove it"
            )
        results = kept[0]["result"]
    else:  # the short export has the regions beside the image
        kept = [{}]
        lists = [value for value in task.values() if isinstance(value, list)]
        results = [each for value in lists for each in value]
    return [each for each in results if isinstance(each, dict)], len(kept) - 1


def _shape(
    path: Path, name: str, category: str, kind: str, value: dict[str, Any], height: int, width: int
) -> Shape:
    if kind.startswith("brush"):
        return mask_shape(name, category, _brush(path, name, value.get("rle"), height, width))
    x_px, y_px = width / 100, height / 100
    try:
        if kind.startswith("polygon"):
            ring: Any = [(float(x) * x_px, float(y) * y_px) for x, y in value["points"]]
        else:
            x, y = float(value["x"]) * x_px, float(value["y"]) * y_px
            turn = float(value.get("rotation", 0))
            if kind.startswith("ellipse"):
                ring = ellipse(x, y, float(value["radiusX"]) * x_px, float(value["radiusY"]) * y_px, turn)
            else:
                ring = _rectangle(x, y, float(value["width"]) * x_px, float(value["height"]) * y_px, turn)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: {name}: must have its place in numbers, got something else; export it again"
        ) from None
    return polygon_shape(str(path), name, category, [[ring]])


def _rectangle(x: float, y: float, width: float, height: float, turn_deg: float) -> NDArray[np.float64]:
    """Return float64[4, 2], the corners of a rectangle that is turned clockwise around its first one."""
    angle = np.deg2rad(turn_deg)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned: NDArray[np.float64] = corners @ turn + (x, y)
    return turned


def _brush(path: Path, name: str, packed: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return bool[height, width] of Label Studio's run lengths of RGBA bytes: what is not transparent is painted.

    The format is that of npm's @thi.ng/rle-pack: the number of values, their width in bits, and four widths of run
    lengths. Then come runs of one value or of single ones.
    """
    damaged = DataError(
        f"{path}: {name}: must be painted in Label Studio's run lengths, got others; export it again"
    )
    if not isinstance(packed, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in packed):
        raise damaged
    bits = np.unpackbits(np.array(packed, np.uint8))
    weights = 1 << np.arange(31, -1, -1, dtype=np.int64)
    place = 0

    def take(num_bits: int) -> int:
        nonlocal place
        if place + num_bits > len(bits):
            raise damaged
        value = int(bits[place : place + num_bits] @ weights[32 - num_bits :])
        place += num_bits
        return value

    num, word_bits = take(32), take(5) + 1
    run_bits = [take(4) + 1 for _ in range(4)]
    if num != 4 * height * width:
        raise damaged
    values = np.zeros(num, np.int64)
    done = 0
    while done < num:
        is_run = take(1)
        length = take(run_bits[take(2)]) + 1
        if done + length > num:
            raise damaged
        if is_run:
            values[done : done + length] = take(word_bits)
        else:
            values[done : done + length] = [take(word_bits) for _ in range(length)]
        done += length
    return values.reshape(height, width, 4)[..., 3] > 0
