"""What all exports share: the images of a data set one by one, and the report."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.canonical import check_name
from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.datasets.writing import new_folder
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import is_partial, objects_only

__all__ = [
    "ExportReport",
    "Exported",
    "Exporter",
    "Losses",
    "export_dataset",
    "note_lost_names",
    "without_unannotated",
]

_SHOWN = 3


@dataclass(frozen=True)
class Exported:
    """One image of a data set that is being exported: its pixels, label map and classes."""

    sample: Sample
    pixels: Pixels
    """[H, W, C]."""
    labels: NDArray[np.int32]
    """int32[H, W], 0 background, -1 not annotated."""
    classes: dict[int, str]
    """Class by label, of the objects that have one."""

    def objects(self) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
        """Yield, for each object, its label, its bounding box as slices, and a mask of its pixels in the box."""
        from scipy import ndimage

        numbers, compact = np.unique(objects_only(self.labels), return_inverse=True)
        first = int(numbers[0] != 0)  # 1 where there is no background, which else is 0
        compact = compact.reshape(self.labels.shape) + first
        for index, box in enumerate(ndimage.find_objects(compact), start=1):
            yield int(numbers[index - first]), box, compact[box] == index

    @property
    def numbers(self) -> list[int]:
        """The labels of the image's objects, ascending."""
        found: list[int] = np.unique(self.labels[self.labels > 0]).tolist()
        return found


class Losses:
    """Collects what a format cannot hold: for each reason, the images that lose something."""

    def __init__(self) -> None:
        self._images: dict[str, list[str]] = {}

    def add(self, what: str, image: str) -> None:
        """Note that an image loses something in the exported format.

        Args:
            what: What is lost, a sentence for the report.
            image: Name of the image.
        """
        self._images.setdefault(what, []).append(image)

    def lines(self, where: str) -> list[str]:
        """Return one line for each kind of loss, with the first few images and their number.

        Args:
            where: The data set, for the lines.
        """
        return [
            f"{where}: {what}, in {', '.join(images[:_SHOWN])}{', ..' if len(images) > _SHOWN else ''} "
            f"({len(images)} images)"
            for what, images in self._images.items()
        ]


class Exporter(Protocol):
    """A function that writes a data set in one format."""

    def __call__(
        self, images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
    ) -> None:
        """Write all images with their annotations.

        Args:
            images: To be asked for once.
            folder: Exists, and is empty.
            channels: Names of the images' channels.
            losses: Is told what the format cannot hold.
        """


@dataclass(frozen=True)
class ExportReport:
    """The result of an export: the counts, and what was left out."""

    source: str
    """Where it lies."""
    written_as: str
    """Name of the format."""
    num_images: int
    """Images that were written."""
    num_objects: int
    """Objects in them."""
    left_out: tuple[str, ...]
    """What is not in the folder, and why: one line each."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        return asdict(self)


@dataclass
class _Count:
    images: int = 0
    objects: int = 0
    problems: list[str] = field(default_factory=list)


def export_dataset(
    source: SampleSource,
    where: str,
    folder: Path,
    name: str,
    exporter: Exporter,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write a data set in a format of another program, and return a report.

    Images that cannot be read are left out, and the report names them. The folder is written under a temporary name
    next to its place and then renamed: an interrupted export leaves nothing.

    Args:
        source: The data set; open it with `strict=False` to have unusable files left out.
        where: Path or URI of the data set, for the report.
        folder: Folder to write; must be new or empty.
        name: Name of the format, for the report.
        exporter: Function that writes the format.
        progress: Called with (images done, images in all).

    Raises:
        DataError: The folder is not empty or cannot be written, or no image can be read.
    """
    count, losses = _Count(problems=list(getattr(source, "problems", ()))), Losses()
    with new_folder(folder) as target:
        exporter(_images(source, count, progress), target, channels=source.channels, losses=losses)
        if not count.images:
            raise DataError(*(count.problems or [f"{where}: must hold images, got none; check the path"]))
    left_out = (*count.problems, *losses.lines(where))
    return ExportReport(where, name, count.images, count.objects, left_out)


def _images(
    source: SampleSource, count: _Count, progress: Callable[[int, int], None] | None
) -> Iterator[Exported]:
    annotated = getattr(source, "read_annotated", None)
    for index, sample in enumerate(source.samples):
        try:
            check_name(sample.id)
            if annotated is None:
                (pixels, labels), classes = source.read(index), {}
            else:
                pixels, annotation = annotated(index)
                labels, classes = annotation.labels, annotation.classes
        except DataError as error:
            count.problems.extend(error.problems)
        else:
            found = Exported(sample, pixels, labels, classes)
            count.images, count.objects = count.images + 1, count.objects + len(found.numbers)
            yield found
        if progress is not None:
            progress(index + 1, len(source.samples))


def without_unannotated(image: Exported, losses: Losses) -> NDArray[np.int32]:
    """Return the label map for a format without unannotated pixels: they become background, which is noted as a loss.

    Args:
        image: The image.
        losses: Receives the loss.
    """
    if is_partial(image.labels):
        losses.add("what is not annotated becomes background", image.sample.id)
    return objects_only(image.labels)


def note_lost_names(images: Iterable[Exported], losses: Losses) -> Iterator[Exported]:
    """Yield the images unchanged, and note a loss for each image whose objects have classes.

    For formats that cannot hold the objects' classes.

    Args:
        images: The images, one by one.
        losses: Receives the losses.
    """
    for image in images:
        if image.classes:
            losses.add("the objects' classes are lost", image.sample.id)
        yield image
