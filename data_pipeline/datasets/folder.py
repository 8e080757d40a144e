"""Folders of image files with one annotation file each: what all such layouts share, and the plain one."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets.base import RGB, SPLITS, Sample
from data_pipeline.datasets.contents import Contents
from data_pipeline.datasets.files import (
    decode_image,
    decode_labels,
    images_by_stem,
    pair_problems,
    single_files,
)
from data_pipeline.exceptions import DataError

__all__ = ["LabelFolder", "PairedFolder", "SamplePaths"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamplePaths:
    """A sample and its two files."""

    sample: Sample
    image: Path
    annotation: Path


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
        image = decode_image(pair.image, self._contents.read(pair.image))
        labels = decode_labels(pair.annotation, self._contents.read(pair.annotation))
        if image.shape[:2] != labels.shape:
            raise DataError(*pair_problems(pair.image, pair.annotation))
        return image, labels


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
        labels, label_problems = single_files(images_by_stem(root / "labels"))
        problems += label_problems
        if not images:
            raise DataError(f"{root / 'images'}: must hold bmp, png or tif images, got none; add them")
        for stem in sorted(images.keys() - labels.keys()):
            problems.append(
                f"{images[stem]}: every image needs labels/{stem}.*, got none; add it or move the image"
            )
        for stem in sorted(labels.keys() - images.keys()):
            problems.append(
                f"{labels[stem]}: every label map needs images/{stem}.*, got none; add it or move the map"
            )
        pairs = [
            SamplePaths(Sample(stem, _split_of(stem), group=stem, stratum=""), images[stem], labels[stem])
            for stem in sorted(images.keys() & labels.keys())
        ]
        logger.warning("%s: no patients are known for this layout; every image is its own group", root)
        super().__init__(root, pairs, problems, strict=strict)


def _split_of(stem: str) -> str:
    prefix = stem.partition("_")[0]
    return prefix if prefix in SPLITS else "train"
