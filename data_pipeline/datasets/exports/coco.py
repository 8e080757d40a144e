"""COCO: `images/`, and one `annotations/instances_SPLIT.json` for each split, objects as run lengths."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.canonical import write_image
from searcher.data_pipeline.datasets.exports.exporter import Exported, Losses
from searcher.data_pipeline.datasets.layouts.coco import NOT_ANNOTATED

__all__ = ["export_coco"]

_WITHOUT_CLASS = "object"


def export_coco(
    images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
) -> None:
    """Write a data set as COCO. Pixels that are not annotated become a crowd, in a category of its own.

    Args:
        images: The images, one by one.
        folder: Folder to write into.
        channels: Names of the images' channels.
        losses: Receives what the format cannot hold.
    """
    del channels, losses
    documents: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    num_annotations = 0
    for number, image in enumerate(images, start=1):
        path = write_image(folder / "images", image.sample.id, image.pixels)
        document = documents.setdefault(image.sample.split, {"images": [], "annotations": []})
        height, width = image.labels.shape
        document["images"].append({"id": number, "file_name": path.name, "width": width, "height": height})
        drawn = [
            (image.classes.get(label, _WITHOUT_CLASS), box, mask) for label, box, mask in image.objects()
        ]
        if (image.labels < 0).any():
            drawn.append((NOT_ANNOTATED, np.s_[0:height, 0:width], image.labels < 0))
        for name, box, mask in drawn:
            num_annotations += 1
            annotation = _annotation(mask, box, image.labels.shape, is_crowd=name == NOT_ANNOTATED)
            annotation["category_id"] = categories.setdefault(name, len(categories) + 1)
            annotation |= {"image_id": number, "id": num_annotations}
            document["annotations"].append(annotation)
    (folder / "annotations").mkdir()
    for split, document in documents.items():
        document["categories"] = [{"id": number, "name": name} for name, number in categories.items()]
        with (folder / "annotations" / f"instances_{split}.json").open("w", encoding="utf-8") as file:
            json.dump(document, file)


def _annotation(
    mask: NDArray[np.bool_], box: tuple[slice, slice], size: tuple[int, ...], *, is_crowd: bool
) -> dict[str, Any]:
    """Return the annotation of an object's pixels bool[h, w] in a window of the image, without its numbers."""
    whole = np.zeros(size, np.bool_)
    whole[box] = mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = box[0].start + int(rows[0]), box[1].start + int(columns[0])
    return {
        "segmentation": {"size": list(size), "counts": _runs(whole)},
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1],
        "iscrowd": int(is_crowd),
    }


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of 0 and 1 in turn, column by column, 0 first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs
