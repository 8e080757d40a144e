"""nnU-Net's folders: `dataset.json`, `imagesTr/NAME_0000.png`, `labelsTr/NAME.png`, and `imagesTs`, `labelsTs`.

Further channels are files of their own, `NAME_0001.png` and so on; together they are one image.

nnU-Net knows classes of pixels, no objects. With one class, every connected piece of it becomes an object. Label maps
with more numbers than classes are taken as maps of objects. Pixels of the label `ignore` are not annotated.
"""

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.text_files import read_json
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import (
    IMAGE_SUFFIXES,
    PixelKind,
    read_data_image,
    read_header,
    read_image,
    read_labels,
)
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import marked_value

__all__ = ["open_nnunet"]

_SPLITS = {"Tr": "train", "Ts": "test"}
_IMAGE_NAME = re.compile(r"(.+)_(\d{4})")


def open_nnunet(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder in nnU-Net's layout; None if the folder has another layout.

    Raises:
        DataError: The data set has several classes. Or, `strict` only, there are images without label map, volumes, or
            unusable files.
    """
    if not ((root / "dataset.json").is_file() and (root / "imagesTr").is_dir()):
        return None
    classes, ignored = _classes(root / "dataset.json")
    pairs: list[tuple[Sample, tuple[Path, ...], Path]] = []
    problems: list[str] = []
    for ending, split in _SPLITS.items():
        if (root / f"labels{ending}").is_dir() and (root / f"images{ending}").is_dir():
            found, wrong = _pairs(root, ending, split)
            pairs += found
            problems += wrong
    label_maps = [label_map for _, _, label_map in pairs]

    @cache
    def holds_objects() -> bool:
        """Whether any label map has a number that is no class; known only once all are read."""
        known = max(classes.values())
        return any(marked_value(read_labels(path), ignored).max(initial=0) > known for path in label_maps)

    entries = []
    for sample, channels, label_map in pairs:

        def read(
            channels: tuple[Path, ...] = channels, label_map: Path = label_map
        ) -> tuple[Pixels, Annotation]:
            return _image(channels), _annotation(label_map, classes, ignored, holds_objects())

        # Every label map decides whether the numbers are objects, so each is part of every sample.
        entries.append(
            Entry(
                sample,
                (*channels, label_map),
                read,
                _kind(channels),
                is_read_anew=lambda: ignored is not None,
            )
        )
    return LayoutSource(root, "nnunet", entries, problems, strict=strict)


def _kind(channels: tuple[Path, ...]) -> PixelKind | None:
    """Return what the files of one image are together, None where the first says it, or cannot be read."""
    if len(channels) == 1:
        return None
    with suppress(DataError):  # `_image` says it
        is_deep = read_header(channels[0]).dtype == np.uint16
        return PixelKind(len(channels), "uint16" if is_deep else "uint8")
    return None


def _image(channels: tuple[Path, ...]) -> Pixels:
    """Return the image of one file, or of several that hold a channel each.

    Raises:
        DataError: One of several is no grey image, or of another size or depth than the first.
    """
    if len(channels) == 1:
        return read_data_image(channels[0])
    planes = [read_image(path) for path in channels]
    first = planes[0]
    for path, plane in zip(channels, planes, strict=True):
        if plane.shape[2] != 1 or plane.shape != first.shape or plane.dtype != first.dtype:
            raise DataError(
                f"{path}: the files of an image must be grey, of one size and depth, got {plane.shape[2]} channels of "
                f"{plane.shape[1]}x{plane.shape[0]} px, {plane.dtype}, beside {first.shape[1]}x{first.shape[0]} px, "
                f"{first.dtype}; export them again"
            )
    return np.concatenate(planes, axis=2)


def _classes(path: Path) -> tuple[dict[str, int], int | None]:
    """Return the values of the classes but the background, by name, and that of `ignore`, None where there is none."""
    document = read_json(path)
    labels = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{path}: must name its labels, got none; restore the file")
    classes: dict[str, int] = {}
    ignored: int | None = None
    for name, value in labels.items():
        name, value = (
            (value, name) if isinstance(value, str) and str(name).isdigit() else (name, value)
        )  # version 1
        if name.lower() == "background" or isinstance(value, list):
            continue
        try:
            if name.lower() == "ignore":
                ignored = int(value)
            else:
                classes[str(name)] = int(value)
        except (TypeError, ValueError):
            raise DataError(
                f"{path}: a label must be a whole number, got {value!r:.40}; restore the file"
            ) from None
    if not classes or min(classes.values()) < 1:
        raise DataError(
            f"{path}: must have a label above 0 beside the background, got none; restore the file"
        )
    return classes, ignored


def _pairs(
    root: Path, ending: str, split: str
) -> tuple[list[tuple[Sample, tuple[Path, ...], Path]], list[str]]:
    images: dict[str, dict[str, Path]] = {}
    problems: list[str] = []
    for path in sorted((root / f"images{ending}").iterdir()):
        if path.name.startswith("."):
            continue
        match = _IMAGE_NAME.fullmatch(path.stem)
        if path.suffix.lower() in IMAGE_SUFFIXES and match is not None:
            images.setdefault(match[1], {})[match[2]] = path
        else:
            problems.append(
                f"{path}: an image must be NAME_0000 with one of the endings "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}, got another; convert volumes to planes, or move it away"
            )
    label_maps = {
        path.stem: path
        for path in sorted((root / f"labels{ending}").iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }
    pairs = []
    for name in sorted(images.keys() | label_maps.keys()):
        channels = images.get(name, {})
        if name not in label_maps or "0000" not in channels:
            missing = f"labels{ending}/{name}" if name not in label_maps else f"images{ending}/{name}_0000"
            problems.append(
                f"{root}: every image needs its label map and the reverse, got no {missing}; add it"
            )
        elif sorted(channels) != [f"{number:04d}" for number in range(len(channels))]:
            problems.append(
                f"{channels['0000']}: channels must be numbered from 0000 without a gap, got "
                f"{', '.join(sorted(channels)[:5])}; add the missing file"
            )
        else:
            sample = Sample(name if split == "train" else f"{split}_{name}", split, group=name, stratum="")
            pairs.append((sample, tuple(channels[key] for key in sorted(channels)), label_maps[name]))
    return pairs, problems


def _annotation(path: Path, classes: dict[str, int], ignored: int | None, holds_objects: bool) -> Annotation:
    labels = marked_value(read_labels(path), ignored)
    if holds_objects:
        remark = (
            f"{path}: has more numbers than dataset.json has classes, so they are taken as numbers of objects"
        )
        return Annotation(labels, _only_class(classes, labels), (remark,))
    if len(classes) > 1:
        raise DataError(
            f"{path}: must hold objects, got {len(classes)} classes of pixels ({', '.join(sorted(classes))[:80]}), "
            "whose touching objects nobody can tell apart; save a number for each object"
        )
    (value,) = classes.values()
    num, pieces = cv2.connectedComponents((labels == value).astype(np.uint8), connectivity=8)
    remark = (
        f"{path}: holds one class of pixels; each of its {num - 1} connected pieces is taken as an object"
    )
    numbered = np.where(labels < 0, labels, pieces.astype(np.int32))
    return Annotation(numbered, _only_class(classes, numbered), (remark,))


def _only_class(classes: dict[str, int], labels: NDArray[Any]) -> dict[int, str]:
    if len(classes) != 1:
        return {}
    (name,) = classes
    return {int(number): name for number in np.unique(labels[labels > 0])}
