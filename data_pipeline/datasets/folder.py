"""Folders of image files with one annotation file each: what all such layouts share, and the plain one."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.contents import Contents
from searcher.data_pipeline.datasets.description import DESCRIPTION_FILE, Description, read_description
from searcher.data_pipeline.datasets.folder_source import FolderSource
from searcher.data_pipeline.datasets.object_classes import check_labels, read_object_classes
from searcher.data_pipeline.datasets.pairs import SamplePaths, check_pair, read_pair
from searcher.data_pipeline.datasets.samples import SPLITS, Sample
from searcher.data_pipeline.datasets.tables import (
    GRADES_FILE,
    SAMPLES_FILE,
    SampleRow,
    read_grades,
    read_samples,
)
from searcher.data_pipeline.datasets.view import objects_of
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import (
    LABEL_SUFFIXES,
    PixelKind,
    check_alike,
    images_by_stem,
    label_maps_in,
    read_header,
    read_label_header,
    single_files,
    subfolder,
    unusable_entries,
)
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import check_annotated, marked_value

__all__ = ["LabelFolder", "PairedFolder", "SamplePaths"]

logger = logging.getLogger(__name__)

_WITHOUT_PIXEL_SIZE = {".png", ".jpg", ".jpeg", ".bmp"}
"""Suffixes of files whose resolution is about printing."""


class PairedFolder(FolderSource):
    """A data set of image files, each with an annotation file; a `SampleSource`.

    Args:
        root: The dataset's folder.
        pairs: The pairs of files in the folder, in the samples' order.
        problems: Problems that the layout found, one line each.
        strict: Whether to raise an error for any problem, including those in the files' headers. Otherwise bad pairs
            are left out, and the lines are in `problems`.

    Raises:
        DataError: All problems, one line each (`strict` only).
    """

    kind = "pairs"

    def __init__(
        self, root: Path, pairs: Iterable[SamplePaths], problems: Iterable[str], *, strict: bool
    ) -> None:
        super().__init__(root)
        self._contents = Contents()
        self._said_masks = False
        found = list(problems)
        self._pairs: list[SamplePaths] = []
        remarks: list[str] = []
        self._read_anew: set[Path] = set()
        kinds: dict[Path, PixelKind] = {}
        for pair in pairs:
            check = check_pair(pair.image, pair.annotation)
            found.extend(check.problems)
            if check.problems:
                continue
            self._pairs.append(pair)
            assert check.kind is not None, pair
            kinds[pair.image] = check.kind
            remarks.extend(check.remarks)
            if check.is_read_anew:
                self._read_anew.add(pair.image)
        self._kind, others, odd = check_alike(kinds)
        found.extend(others)
        self._pairs = [pair for pair in self._pairs if pair.image not in odd]
        if strict and found:
            raise DataError(*found)
        self.problems: tuple[str, ...] = tuple(found)
        self.remarks: tuple[str, ...] = tuple(remarks)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All samples, in the layout's order. A pixel size in a table overrides the one in the image file."""
        return [_with_pixel_size(pair) for pair in self._pairs]

    def fingerprint(self) -> str:
        """Return the SHA-256 of all files' contents and all samples' names. The folder's path does not affect it.

        Raises:
            DataError: A file cannot be read.
        """
        digest = hashlib.sha256(self.kind.encode())
        for pair in self._pairs:
            sample = pair.sample
            fields: tuple[object, ...] = (sample.id, sample.split, sample.group, sample.stratum)
            if sample.pixel_size_um is not None:  # of a table; those in an image file are in its bytes
                fields += (sample.pixel_size_um,)
            if pair.image in self._read_anew:  # stores of earlier releases hold other pixels
                fields += ("as stored",)
            digest.update(repr(fields).encode())
            for path in (pair.image, pair.annotation):
                digest.update(self._contents.digest(path))
        return digest.hexdigest()

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image `dtype`[H, W, C] and instance label map int32[H, W] of `samples[index]`.

        If a mask has 1 bit, its connected pieces are the objects; a warning is logged once.

        Raises:
            ChangedDataError: A file has changed since the fingerprint was taken.
            DataError: A file cannot be decoded, or differs from its header.
        """
        image, labels = self.read_stored(index)
        annotation = self._pairs[index].annotation
        if read_label_header(annotation).dtype != np.bool_:
            check_annotated(annotation, labels)
            return image, labels
        if not self._said_masks:
            self._said_masks = True
            logger.warning("%s: masks of 1 bit, whose connected pieces are taken for the objects", annotation)
        return image, objects_of(labels, "binary")

    def read_stored(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image and label map like `read`, but a mask of 1 bit unchanged, as it is stored.

        Raises:
            ChangedDataError: A file has changed since the fingerprint was taken.
            DataError: A file cannot be decoded, or differs from its header.
        """
        pair = self._pairs[index]
        with self._contents.unchanged(pair.image, pair.annotation):
            image, labels = read_pair(pair)
        self._kind.require(pair.image, image)
        return image, labels


class LabelFolder(PairedFolder):
    """A data set of images in `images/` and label maps of the same names in `labels/`; a `SampleSource`.

    `dataset.toml`, as `searcher data import` writes it, holds the name, the licence and the channels' names. It may
    hold the number of pixels that are not annotated. `samples.csv`, or `Grade.csv` of GlaS, holds each image's patient;
    see `searcher.data_pipeline.datasets.tables`. Without either, every image is its own group. If no table names the
    split, images whose names begin with `testA_` or `testB_` belong to that split, all others to `train`.

    Args:
        root: Folder that holds `images` and `labels`.
        strict: See `PairedFolder`.

    Raises:
        DataError: An image without label map or the reverse, unusable files, or no image at all.
    """

    kind = "folder"

    def __init__(self, root: Path, *, strict: bool = True) -> None:
        images_folder, labels_folder = subfolder(root, "images"), subfolder(root, "labels")
        assert images_folder is not None, root
        assert labels_folder is not None, root
        images, problems = single_files(images_by_stem(images_folder))
        labels, label_problems = single_files(label_maps_in(labels_folder, images))
        problems += label_problems
        problems += unusable_entries(images_folder) + unusable_entries(labels_folder, LABEL_SUFFIXES)
        if not images:
            raise DataError(f"{images_folder}: must hold png, jpg, bmp or tif images, got none; add them")
        for stem in sorted(images.keys() - labels.keys()):
            problems.append(
                f"{images[stem]}: every image needs labels/{stem}.*, got none; add it or move the image"
            )
        for stem in sorted(labels.keys() - images.keys()):
            problems.append(
                f"{labels[stem]}: every label map needs images/{stem}.*, got none; add it or move the map"
            )
        names = {stem: path.stem for stem, path in images.items()}
        rows, row_problems = _rows(root, names.values())
        problems += row_problems
        self._classes, class_problems = read_object_classes(root, names.values())
        problems += class_problems
        self._description = Description()
        try:
            self._description = read_description(root)
        except DataError as error:
            problems.extend(error.problems)
        pairs = [
            SamplePaths(_sample(names[stem], rows.get(names[stem], SampleRow())), images[stem], labels[stem])
            for stem in sorted(images.keys() & labels.keys())
        ]
        super().__init__(root, pairs, problems, strict=strict)
        named = self._description.channels
        if pairs and named and len(named) != self._kind.channels:
            problem = (
                f"{root / DESCRIPTION_FILE}: channels must have a name for each of {self._kind.channels} channels, got "
                f"{len(named)}; correct it"
            )
            if strict:
                raise DataError(problem)
            self.problems += (problem,)

    @property
    def name(self) -> str:
        """The name in `dataset.toml`, or the folder's name without one."""
        return self._description.name or super().name

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the objects' classes in `dataset.toml` and `objects.csv`, sorted."""
        in_table = {name for of_image in self._classes.values() for name in of_image.values() if name}
        return tuple(sorted({*self._description.classes, *in_table}))

    @property
    def declared_classes(self) -> tuple[str, ...]:
        """Names of the objects' classes that `dataset.toml` declares, in their order there."""
        return self._description.classes

    @property
    def has_classes(self) -> bool:
        """Whether any object has a class."""
        return any(name for of_image in self._classes.values() for name in of_image.values())

    def class_fingerprint(self) -> str:
        """Return the SHA-256 of the classes in `objects.csv` and `dataset.toml`; they are not part of `fingerprint`."""
        of_images = sorted((name, sorted(classes.items())) for name, classes in self._classes.items())
        return hashlib.sha256(repr((self.declared_classes, of_images)).encode()).hexdigest()

    @property
    def licence(self) -> str:
        """The licence in `dataset.toml`; empty without one."""
        return self._description.licence

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names in `dataset.toml` if it names all of them; otherwise the usual ones."""
        named = self._description.channels
        return named if len(named) == self._kind.channels else self._kind.names

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image and label map as `PairedFolder.read` does.

        Raises:
            DataError: As there; or a row of `objects.csv` names an object that the label map does not have.
        """
        image, labels = super().read(index)
        name = self._pairs[index].sample.id
        check_labels(self.root, name, self._classes.get(name, {}), labels)
        return image, labels

    def read_annotated(self, index: int) -> tuple[Pixels, Annotation]:
        """Return an image, and its label map with the objects' classes from `objects.csv`. Raises what `read` does."""
        image, labels = self.read(index)
        return image, Annotation(labels, self.object_classes(index))

    def object_classes(self, index: int) -> dict[int, str]:
        """Return the class of each object of an image by label, for objects that have one. Reads no pixels.

        Args:
            index: Index of the image.
        """
        classes = self._classes.get(self._pairs[index].sample.id, {})
        return {label: name for label, name in classes.items() if name}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the data set: that of `PairedFolder`.

        If `dataset.toml` has a number for pixels that are not annotated, the number is part of it.
        """
        plain = super().fingerprint()
        value = self._description.not_annotated
        return (
            plain
            if value is None
            else hashlib.sha256(f"{plain} {value} is not annotated".encode()).hexdigest()
        )

    def read_stored(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image and label map like `PairedFolder.read_stored`, with -1 for pixels that are not annotated."""
        image, labels = super().read_stored(index)
        return image, marked_value(labels, self._description.not_annotated)

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether a folder has the subfolders `images` and `labels`, the latter with a label map in it."""
        labels = subfolder(root, "labels")
        if labels is None or subfolder(root, "images") is None:
            return False
        found = label_maps_in(labels).values()
        return any(not path.name.lower().endswith("_seg.npy") for paths in found for path in paths)


def _rows(root: Path, ids: Collection[str]) -> tuple[dict[str, SampleRow], list[str]]:
    """Return what the folder's table says of each image, nothing where there is none; and the table's problems."""
    rows, problems = read_samples(root, ids)
    if rows is not None:
        if (root / GRADES_FILE).exists():
            logger.warning("%s: %s is used, not %s", root, SAMPLES_FILE, GRADES_FILE)
        return rows, problems
    grades, problems = read_grades(root)
    if grades is None:
        return {}, problems
    without = sorted(set(ids) - grades.keys())
    if without and not problems:
        shown = ", ".join(without[:5]) + (", .." if len(without) > 5 else "")
        problems.append(
            f"{root / GRADES_FILE}: every image needs a row, got none for {shown} ({len(without)} of {len(ids)} "
            "images); add it, or remove the file to go without patients"
        )
    return {
        name: SampleRow(patient=patient, stratum=grade) for name, (patient, grade) in grades.items()
    }, problems


def _with_pixel_size(pair: SamplePaths) -> Sample:
    if pair.sample.pixel_size_um is not None or pair.image.suffix.lower() in _WITHOUT_PIXEL_SIZE:
        return pair.sample
    return replace(pair.sample, pixel_size_um=read_header(pair.image).pixel_size_um)


def _sample(stem: str, row: SampleRow) -> Sample:
    return Sample(
        stem,
        row.split or _split_of(stem),
        group=row.patient or stem,
        stratum=row.stratum or "",
        pixel_size_um=row.pixel_size_um,
    )


def _split_of(stem: str) -> str:
    prefix = stem.partition("_")[0]
    return prefix if prefix in SPLITS else "train"
