"""Data sets in NumPy files with all their images: PanNuke and CoNIC."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.matlab import check_numbers
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import PixelKind

__all__ = ["open_conic", "open_pannuke"]

_PANNUKE_CLASSES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
_CONIC_CLASSES = ("", "neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")


def open_pannuke(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in PanNuke's folds, each with `images.npy` and `masks.npy`; None if there are none.

    Raises:
        DataError: Files are missing, cut off, or of other shapes.
    """
    found = sorted(path for path in _below(root, "masks.npy"))
    if not found:
        return None
    entries: list[Entry] = []
    problems: list[str] = []
    for number, masks in enumerate(found, start=1):
        try:
            fold = f"fold{number}_" if len(found) > 1 else ""
            entries += _fold(
                fold, _beside(root, masks, "images.npy"), masks, _beside_or_none(root, masks, "types.npy")
            )
        except DataError as error:
            problems.extend(error.problems)
    remarks = [f"{root}: {len(found)} folds are all taken for training"] if len(found) > 1 else []
    return LayoutSource(root, "pannuke", entries, problems, strict=strict, remarks=remarks)


def open_conic(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in CoNIC's `images.npy` and `labels.npy`; None if these files are not there.

    `patch_info.csv` names the image from which each patch was cut. That image counts as the patch's patient.

    Raises:
        DataError: The files are cut off, or of other shapes.
    """
    found = [path for path in _below(root, "labels.npy") if path.with_name("images.npy").is_file()]
    if not found:
        return None
    path = found[0]
    images, labels = _array(path.with_name("images.npy")), _array(path)
    if images.ndim != 4 or images.shape[3] != 3 or labels.shape != (*images.shape[:3], 2):
        raise DataError(
            f"{path}: must be [N, H, W, 2] for images [N, H, W, 3], got {list(labels.shape)} for {list(images.shape)}; "
            "restore the files"
        )
    names = _patch_names(path.with_name("patch_info.csv"), len(images))
    entries = []
    for index in range(len(images)):
        name = names[index] if names else f"{index:05d}"
        group = name.rpartition("-")[0] or name
        read = _PatchReader(path.with_name("images.npy"), path, index, _conic_annotation)
        entries.append(
            Entry(Sample(name, "train", group, ""), (path.with_name("images.npy"), path), read, PixelKind())
        )
    return LayoutSource(root, "conic", entries, strict=strict)


class _PatchReader:
    """Reads one patch of two arrays."""

    def __init__(self, images: Path, labels: Path, index: int, annotation: Any) -> None:
        self._images, self._labels, self._index = images, labels, index
        self._annotation = annotation

    def __call__(self) -> tuple[NDArray[np.uint8], Annotation]:
        image = np.asarray(_array(self._images)[self._index])
        where = f"{self._images}: image {self._index}"
        if image.dtype != np.uint8:
            if not np.isfinite(image).all() or image.min() < 0 or image.max() > 255 or (image % 1 != 0).any():
                raise DataError(
                    f"{where}: must hold whole numbers from 0 to 255, got {image.min()} to {image.max()}; "
                    "save it as uint8"
                )
            image = image.astype(np.uint8)
        values = np.asarray(_array(self._labels)[self._index])
        return np.ascontiguousarray(image), self._annotation(f"{self._labels}: image {self._index}", values)


def _fold(fold: str, images_path: Path, masks_path: Path, types_path: Path | None) -> list[Entry]:
    images, masks = _array(images_path), _array(masks_path)
    if images.ndim != 4 or images.shape[3] != 3 or masks.shape != (*images.shape[:3], 6):
        raise DataError(
            f"{masks_path}: must be [N, H, W, 6] for images [N, H, W, 3], got {list(masks.shape)} for "
            f"{list(images.shape)}; restore the files"
        )
    types = [""] * len(images)
    if types_path is not None:
        found = _array(types_path)
        if found.shape != (len(images),) or found.dtype.kind not in "US":
            raise DataError(
                f"{types_path}: must hold {len(images)} names, got {list(found.shape)} of {found.dtype}; "
                "restore the file, or remove it to go without tissues"
            )
        types = [str(kind) for kind in found.astype(str).tolist()]
    return [
        Entry(
            Sample(f"{fold}{index:05d}", "train", group=f"{fold}{index:05d}", stratum=types[index]),
            (images_path, masks_path),
            _PatchReader(images_path, masks_path, index, _pannuke_annotation),
            PixelKind(),
        )
        for index in range(len(images))
    ]


def _pannuke_annotation(where: str, masks: NDArray[Any]) -> Annotation:
    """Return what five maps say, one for each class; the sixth is the background."""
    labels = np.zeros(masks.shape[:2], np.int32)
    classes: dict[int, str] = {}
    num_covered = 0
    for channel, name in enumerate(_PANNUKE_CLASSES):
        numbers = check_numbers(where, masks[..., channel])
        for number in np.unique(numbers[numbers > 0]).tolist():
            pixels = numbers == number
            num_covered += int(np.count_nonzero(labels[pixels]))
            classes[len(classes) + 1] = name
            labels[pixels] = len(classes)
    present = set(np.unique(labels).tolist())
    remarks = (
        (f"{where}: objects overlap in {num_covered} px; the later one keeps them",) if num_covered else ()
    )
    return Annotation(
        labels, {number: name for number, name in classes.items() if number in present}, remarks
    )


def _conic_annotation(where: str, values: NDArray[Any]) -> Annotation:
    labels, kinds = check_numbers(where, values[..., 0]), check_numbers(where, values[..., 1])
    classes = {}
    for number, first in zip(*np.unique(labels, return_index=True), strict=True):
        kind = int(kinds.flat[first])
        if number > 0 and 0 < kind < len(_CONIC_CLASSES):
            classes[int(number)] = _CONIC_CLASSES[kind]
    return Annotation(labels, classes)


def _patch_names(path: Path, num_images: int) -> list[str]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: must be readable as CSV, got {error}; restore it, or remove it") from error
    names = [row[0].strip() for row in rows]
    names = names[1:] if len(names) == num_images + 1 else names
    if len(names) != num_images or len(set(names)) != num_images:
        raise DataError(
            f"{path}: must have a row of its own for each of {num_images} images, got {len(set(names))}; "
            "restore it, or remove it to go without patients"
        )
    return names


def _array(path: Path) -> NDArray[Any]:
    """Map a NumPy file; nothing in it is run, and nothing is read before it is looked at."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(
            f"{path}: the file must be readable, got {error.strerror or error}; restore it"
        ) from error
    except (ValueError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{path}: must be a complete NumPy file of numbers, got {' '.join(str(error).split())[:80]}; save it again"
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biufUS":
        raise DataError(f"{path}: must be a NumPy file of numbers, got something else; save it again")
    return found


def _below(root: Path, name: str) -> list[Path]:
    found = [path for depth in range(4) for path in root.glob("*/" * depth + name)]
    return sorted(path for path in found if path.is_file())


def _beside_or_none(root: Path, masks: Path, name: str) -> Path | None:
    """Return the file of a fold: next to the masks, or in the folder that has `images` where theirs has `masks`."""
    parts = masks.relative_to(root).parts[:-1]
    swapped = root.joinpath(*(part.replace("masks", "images") for part in parts), name)
    return next((path for path in (masks.with_name(name), swapped) if path.is_file()), None)


def _beside(root: Path, masks: Path, name: str) -> Path:
    found = _beside_or_none(root, masks, name)
    if found is None:
        raise DataError(f"{masks}: must have its {name} beside it, got none; restore it")
    return found
