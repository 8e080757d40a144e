"""Small data sets whose every byte is the same on every machine: BMP is never compressed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["WRITERS"]

_SIDE = 32


def _image(number: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:_SIDE, :_SIDE]
    return np.stack([x * 7, y * 7, (x + y) * number], axis=-1).astype(np.uint8)


def _labels(number: int) -> NDArray[np.uint8]:
    labels = np.zeros((_SIDE, _SIDE), np.uint8)
    labels[2 : 10 + number, 3:12] = 1
    labels[20:28, 16:30] = 2
    return labels


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _folder(root: Path) -> None:
    for number in range(1, 4):
        _save(root / "images" / f"{number}.bmp", _image(number))
        _save(root / "labels" / f"{number}.bmp", _labels(number))


def _glas(root: Path) -> None:
    rows = ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for number, name in enumerate(("train_1", "train_2", "testA_1"), start=1):
        _save(root / f"{name}.bmp", _image(number))
        _save(root / f"{name}_anno.bmp", _labels(number))
        rows.append(f"{name}, {number}, benign, adenomatous")
    (root / "Grade.csv").write_text("\n".join(rows) + "\n")


def _geojson(root: Path) -> None:
    for number in range(1, 4):
        _save(root / "images" / f"{number}.bmp", _image(number))
        ring = [[3, 2], [12, 2], [12, 10 + number], [3, 10 + number], [3, 2]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        feature = {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}
        (root / "labels").mkdir(exist_ok=True)
        text = json.dumps({"type": "FeatureCollection", "features": [feature]})
        (root / "labels" / f"{number}.geojson").write_text(text)


def _coco(root: Path) -> None:
    images, annotations = [], []
    for number in range(1, 4):
        _save(root / "images" / f"{number}.bmp", _image(number))
        images.append({"id": number, "file_name": f"{number}.bmp", "width": _SIDE, "height": _SIDE})
        ring = [3, 2, 12, 2, 12, 10 + number, 3, 10 + number]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": [ring]}
        )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Gland"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))


WRITERS: dict[str, Callable[[Path], None]] = {
    "folder": _folder,
    "glas": _glas,
    "geojson": _geojson,
    "coco": _coco,
}
"""By layout; each writes three images of 32 x 32 pixels into a new folder."""
