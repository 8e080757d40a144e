"""A layout of data sets: one NumPy archive for each split, with all of its images.

`train.npz`, and perhaps `val.npz` and `test.npz`. Each holds `images` uint8[N, H, W, 3], `masks` int[N, H, W] with one
number for each object, and `patients`, N texts.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.datasets.layouts.table import register_layout
from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import PixelKind

__all__ = ["open_archives"]

_SPLITS = ("train", "val", "test")
_KEYS = ("images", "masks", "patients")


@register_layout("archives")
def open_archives(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder of archives, None if it holds another layout.

    Raises:
        DataError: An archive is damaged, or its arrays do not fit together; one line each.
    """
    archives = [path for path in (root / f"{split}.npz" for split in _SPLITS) if path.is_file()]
    if not archives or archives[0].stem != "train":
        return None
    entries: list[Entry] = []
    problems: list[str] = []
    for path in archives:
        try:
            patients = _patients(path)
        except DataError as error:
            problems.extend(error.problems)
            continue
        entries += [
            Entry(
                Sample(f"{path.stem}_{number}", path.stem, patient, ""),
                (path,),
                _Reader(path, number),
                PixelKind(),
            )
            for number, patient in enumerate(patients)
        ]
    return LayoutSource(root, "archives", entries, problems, strict=strict)


@dataclass(frozen=True)
class _Reader:
    """Reads one image and its mask."""

    path: Path
    number: int

    def __call__(self) -> tuple[NDArray[np.uint8], Annotation]:
        arrays = _arrays(self.path)
        image = np.ascontiguousarray(arrays["images"][self.number])
        return image, Annotation(arrays["masks"][self.number].astype(np.int32))


def _patients(path: Path) -> list[str]:
    arrays = _arrays(path)
    images, masks, patients = (arrays[key] for key in _KEYS)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise DataError(
            f"{path}: images must be uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}; save them so"
        )
    if masks.dtype.kind not in "iu" or masks.shape != images.shape[:3] or patients.shape != images.shape[:1]:
        raise DataError(
            f"{path}: masks must be integers {list(images.shape[:3])} and patients [{len(images)}], got "
            f"{masks.dtype} {list(masks.shape)} and {list(patients.shape)}; save one of each for every image"
        )
    return [str(patient) for patient in patients]


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if missing := [key for key in _KEYS if key not in archive]:
                raise DataError(f"{path}: must hold {', '.join(_KEYS)}, lacks {', '.join(missing)}; add them")
            return {key: archive[key] for key in _KEYS}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: must be a NumPy archive, got {error}; save it with np.savez") from error
