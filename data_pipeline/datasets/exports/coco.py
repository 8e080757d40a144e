"""COCO: `images/`, and one `annotations/instances_SPLIT.json` for each split, objects as run lengths."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.canonical import write_image
from searcher.data_pipeline.datasets.exports.base import Exported, Losses
from searcher.data_pipeline.datasets.layouts.coco import NOT_ANNOTATED

__all__ = ["export_coco"]

_WITHOUT_CLASS = "object"


def export_coco(
    images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
) -> None:
    """Write a data set as COCO; see `Exporter`. What is not annotated is a crowd of the category of that name."""
    del channels, losses
    documents: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    for number, image in enumerate(images, start=1):
        path = write_image(folder / "images", image.sample.id, image.pixels)
        document = documents.setdefault(image.sample.split, {"images": [], "annotations": []})
        height, width = image.labels.shape
        document["images"].append({"id": number, "file_name": path.name, "width": width, "height": height})
        for label in [*image.numbers, *([-1] if (image.labels < 0).any() else [])]:
            name = NOT_ANNOTATED if label < 0 else image.classes.get(label, _WITHOUT_CLASS)
            annotation = _annotation(image.labels == label, is_crowd=label < 0)
            annotation["category_id"] = categories.setdefault(name, len(categories) + 1)
            annotation["image_id"] = number
            annotation["id"] = sum(len(each["annotations"]) for each in documents.values()) + 1
            document["annotations"].append(annotation)
    (folder / "annotations").mkdir()
    for split, document in documents.items():
        document["categories"] = [{"id": number, "name": name} for name, number in categories.items()]
        with (folder / "annotations" / f"instances_{split}.json").open("w", encoding="utf-8") as file:
            json.dump(document, file)


def _annotation(mask: NDArray[np.bool_], *, is_crowd: bool) -> dict[str, Any]:
    """Return the annotation of an object's pixels bool[H, W], without its numbers."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "segmentation": {"size": list(mask.shape), "counts": _runs(mask)},
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": int(is_crowd),
    }


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of 0 and 1 in turn, column by column, 0 first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs
