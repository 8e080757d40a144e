"""Folders of image files with one annotation file each: what all such layouts share, and the plain one."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets.base import RGB, SPLITS, Sample
from data_pipeline.datasets.contents import Contents
from data_pipeline.datasets.pairs import SamplePaths, pair_problems, read_pair
from data_pipeline.exceptions import DataError
from data_pipeline.images import images_by_stem, label_maps_in, single_files

__all__ = ["LabelFolder", "PairedFolder", "SamplePaths"]

logger = logging.getLogger(__name__)


class PairedFolder:
    """A `SampleSource` of pairs of files.

    Args:
        root: The dataset's folder.
        pairs: The pairs found in it, in the samples' order.
        problems: What the layout found wrong, one line each.
        strict: Raise when anything is wrong, headers of the pairs included. Otherwise leave the bad pairs out
            and keep the lines in `problems`, for inspection.

    Raises:
        DataError: All problems, one line each (`strict` only).
    """

    kind = "pairs"

    def __init__(
        self, root: Path, pairs: Iterable[SamplePaths], problems: Iterable[str], *, strict: bool
    ) -> None:
        self.root = root
        self._contents = Contents()
        found = list(problems)
        self._pairs: list[SamplePaths] = []
        for pair in pairs:
            wrong = pair_problems(pair.image, pair.annotation)
            found.extend(wrong)
            if not wrong:
                self._pairs.append(pair)
        if strict and found:
            raise DataError(*found)
        self.problems: tuple[str, ...] = tuple(found)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    @property
    def licence(self) -> str:
        """What may be done with the images: nobody said."""
        return ""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel: nobody said."""
        return None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the images' channels."""
        return RGB

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """Type of the images' values."""
        return "uint8"

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in the layout's order."""
        return [pair.sample for pair in self._pairs]

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's content and every sample's names; where the folder lies is no part.

        Raises:
            DataError: A file that cannot be read.
        """
        digest = hashlib.sha256(self.kind.encode())
        for pair in self._pairs:
            sample = pair.sample
            fields = (sample.id, sample.split, sample.group, sample.stratum)
            digest.update(repr(fields).encode())
            for path in (pair.image, pair.annotation):
                digest.update(self._contents.digest(path))
        return digest.hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return image uint8[H, W, 3] and instance label map int32[H, W] of `samples[index]`.

        Raises:
            ChangedDataError: A file is no longer what the fingerprint was last taken of.
            DataError: A file does not decode, or is not what its header promised.
        """
        pair = self._pairs[index]
        with self._contents.unchanged(pair.image, pair.annotation):
            return read_pair(pair)


class LabelFolder(PairedFolder):
    """Images in `images/`, label maps of the same names in `labels/`.

    Names that begin with `testA_` or `testB_` are those splits, all others `train`. Nothing tells patients, so
    every image is its own group, with a warning.

    Args:
        root: Folder that holds `images` and `labels`.
        strict: See `PairedFolder`.

    Raises:
        DataError: An image without label map or the reverse, unusable files, no image at all.
    """

    kind = "folder"

    def __init__(self, root: Path, *, strict: bool = True) -> None:
        images, problems = single_files(images_by_stem(root / "images"))
        labels, label_problems = single_files(label_maps_in(root / "labels", images))
        problems += label_problems
        if not images:
            raise DataError(f"{root / 'images'}: must hold png, jpg, bmp or tif images, got none; add them")
        for stem in sorted(images.keys() - labels.keys()):
            problems.append(
                f"{images[stem]}: every image needs labels/{stem}.*, got none; add it or move the image"
            )
        for stem in sorted(labels.keys() - images.keys()):
            problems.append(
                f"{labels[stem]}: every label map needs images/{stem}.*, got none; add it or move the map"
            )
        pairs = [
            SamplePaths(_sample(images[stem].stem), images[stem], labels[stem])
            for stem in sorted(images.keys() & labels.keys())
        ]
        logger.warning("%s: no patients are known for this layout; every image is its own group", root)
        super().__init__(root, pairs, problems, strict=strict)

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether the folder has `images`, and `labels` with a label map in it."""
        if not ((root / "images").is_dir() and (root / "labels").is_dir()):
            return False
        found = label_maps_in(root / "labels").values()
        return any(not path.name.lower().endswith("_seg.npy") for paths in found for path in paths)


def _sample(name: str) -> Sample:
    return Sample(name, _split_of(name), group=name, stratum="")


def _split_of(stem: str) -> str:
    prefix = stem.partition("_")[0]
    return prefix if prefix in SPLITS else "train"
