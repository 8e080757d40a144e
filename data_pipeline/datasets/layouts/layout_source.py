"""What the layouts share: samples, each with the files that it is read from and a function that reads it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.contents import Contents
from searcher.data_pipeline.datasets.folder_source import FolderSource
from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES, PixelKind, check_alike, kind_of, read_header
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import check_annotated

__all__ = ["Entry", "LayoutSource"]

_WITH_PIXEL_SIZE = IMAGE_SUFFIXES - {".png", ".jpg", ".jpeg", ".bmp"}


@dataclass(frozen=True)
class Entry:
    """A sample of a data set, its files, and a function that reads it."""

    sample: Sample
    files: tuple[Path, ...]
    """Every file, or folder of files, that decides what `read` returns."""
    read: Callable[[], tuple[Pixels, Annotation]]
    """Returns the image and its annotation, or raises a DataError that names the file."""
    kind: PixelKind | None = None
    """The image's channels and depth; None: as the header of the first file says."""
    is_read_anew: Callable[[], bool] = lambda: False
    """Whether earlier releases read these files otherwise, so that earlier stores hold other labels."""


class LayoutSource(FolderSource):
    """A data set in a folder, given as a list of entries; a `SampleSource`.

    Args:
        root: The dataset's folder.
        kind: Name of the layout.
        entries: The samples found in the folder, in their order.
        problems: Problems that the layout found, one line each.
        strict: Whether to raise an error for any problem. Otherwise the lines are in `problems`.
        pixel_size_um: Side of a pixel in micrometres; None if the layout does not say it. Then it is read from TIFF
            files.
        remarks: Decisions made where the layout is ambiguous, one line each.

    Raises:
        DataError: All problems, one line each (`strict` only); or there is neither a sample nor a problem.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        entries: Iterable[Entry],
        problems: Iterable[str] = (),
        *,
        strict: bool = True,
        pixel_size_um: float | None = None,
        remarks: Iterable[str] = (),
    ) -> None:
        super().__init__(root)
        self.kind = kind
        self._contents = Contents()
        self._pixel_size_um = pixel_size_um
        self._entries = list(entries)
        found = [*problems, *_doubled(root, self._entries)]
        known = {entry.files[0]: _kind_of(entry) for entry in self._entries}
        kinds = {path: of_image for path, of_image in known.items() if of_image is not None}
        self._kind, others, odd = check_alike(kinds)
        found.extend(others)
        self._entries = [entry for entry in self._entries if entry.files[0] not in odd]
        if not found and not self._entries:
            found.append(f"{root}: must hold images with annotations, got none; add them")
        if found and (strict or not self._entries):
            raise DataError(*found)
        self.problems: tuple[str, ...] = tuple(found)
        self._remarks = tuple(remarks)
        self._remarks_of: dict[int, tuple[str, ...]] = {}

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All samples, in the layout's order."""
        return [
            replace(entry.sample, pixel_size_um=self._pixel_size_um or _size_in(entry.files[0]))
            for entry in self._entries
        ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Decisions made where the files read so far are ambiguous, one line each."""
        return self._remarks + tuple(
            line for index in sorted(self._remarks_of) for line in self._remarks_of[index]
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of all files' contents and all samples' names. The folder's path does not affect it.

        Raises:
            DataError: A file cannot be read.
        """
        digest = hashlib.sha256(self.kind.encode())
        digests: dict[Path, bytes] = {}  # one file may describe all samples
        for entry in self._entries:
            sample = entry.sample
            digest.update(repr((sample.id, sample.split, sample.group, sample.stratum)).encode())
            for path in entry.files:
                if path not in digests:
                    digests[path] = self._contents.digest(path)
                digest.update(digests[path])
            if entry.is_read_anew():
                digest.update(b"with what is not annotated")
        return digest.hexdigest()

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image `dtype`[H, W, C] and instance label map int32[H, W] of `samples[index]`.

        Raises:
            DataError: A file cannot be decoded, or cannot be used.
        """
        image, annotation = self.read_annotated(index)
        return image, annotation.labels

    def read_annotated(self, index: int) -> tuple[Pixels, Annotation]:
        """Return an image, and its annotation: the label map, and the objects' classes.

        Raises:
            DataError: A file cannot be decoded, or cannot be used.
        """
        entry = self._entries[index]
        with self._contents.unchanged(*entry.files):
            image, annotation = entry.read()
        if image.shape[:2] != annotation.labels.shape:
            height, width = annotation.labels.shape
            raise DataError(
                f"{entry.files[-1]}: an annotation must have its image's size {image.shape[1]}x{image.shape[0]}, "
                f"got {width}x{height}; export it again at the image's own resolution"
            )
        self._kind.require(entry.files[0], image)
        check_annotated(entry.files[-1], annotation.labels)
        self._remarks_of[index] = annotation.remarks
        return image, annotation


def _kind_of(entry: Entry) -> PixelKind | None:
    """Return the channels and depth of an entry's image, None where they are not known before it is read."""
    image = entry.files[0]
    if entry.kind is not None or image.suffix.lower() not in IMAGE_SUFFIXES:
        return entry.kind
    try:
        return kind_of(image, read_header(image))
    except DataError:  # `read` says it
        return None


def _size_in(image: Path) -> float | None:
    """Return the side of a pixel that an image file states, None for files whose resolution is about printing."""
    if image.suffix.lower() not in _WITH_PIXEL_SIZE:
        return None
    try:
        return read_header(image).pixel_size_um
    except DataError:  # `read` says it
        return None


def _doubled(root: Path, entries: list[Entry]) -> list[str]:
    times = Counter(entry.sample.id for entry in entries)
    return [
        f"{root}: every image must have a name of its own, got {times[name]} named {name}; rename them"
        for name in times
        if times[name] > 1
    ]
