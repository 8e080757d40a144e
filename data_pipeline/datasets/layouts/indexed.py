"""Images whose annotations lie in one file for many: what COCO, CVAT and Label Studio share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.painting import covered, paint
from searcher.data_pipeline.datasets.annotations.shapes import Shape
from searcher.data_pipeline.datasets.layouts.folder_scan import FoundFile, find_image, samples_of, scan
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES, read_data_image
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import marked_outside

__all__ = ["Record", "open_indexed", "read_records"]


@dataclass(frozen=True)
class Record:
    """One image that an annotation file lists, and its shapes."""

    index: Path
    """The annotation file."""
    file_name: str
    """What it calls the image: a name, a path or a URL."""
    split: str
    """Split that the annotation file is of; empty where it does not say."""
    size: tuple[int, int] | None
    """(width, height) that it gives, None where it gives none."""
    shapes: Callable[[int, int], tuple[Sequence[Shape], tuple[str, ...]]]
    """Returns the objects in an image of a height and width, and remarks."""
    ignored: Callable[[], Sequence[Shape]] = tuple
    """Returns areas that are not annotated, but for objects in them."""


def read_records(
    files: Iterable[Path], read: Callable[[Path], list[Record]]
) -> tuple[list[Record], list[str]]:
    """Return the images that all annotation files list, and the problems of files that cannot be used, one line each.

    Args:
        files: The annotation files.
        read: Reads one of them; raises DataError for an unusable one.
    """
    records: list[Record] = []
    problems: list[str] = []
    for path in files:
        try:
            records += read(path)
        except DataError as error:
            problems.extend(error.problems)
    return records, problems


def open_indexed(
    root: Path, kind: str, records: Sequence[Record], problems: Sequence[str], *, strict: bool
) -> LayoutSource:
    """Return the data set of the images that annotation files list.

    Images that no annotation file lists are left out, with a remark: they may hold objects that nobody drew.

    Args:
        root: The data set's folder.
        kind: Name of the layout, such as `coco`.
        records: The images that the annotation files list.
        problems: Problems of the annotation files, one line each.
        strict: Whether a problem is an error; otherwise the images concerned are left out.

    Raises:
        DataError: Images are missing, listed twice, or of another size, or files are unusable (`strict` only).
    """
    images = [file for file in scan(root, IMAGE_SUFFIXES) if not file.is_label or file.is_image]
    found: list[FoundFile] = []
    named: list[Record] = []
    wrong = list(problems)
    for record in records:
        matches = find_image(images, record.file_name)
        if len(matches) == 1:
            image = matches[0]
            split = record.split or image.split
            found.append(
                FoundFile(image.path, split, image.parts, image.stem, image.is_label, image.is_image)
            )
            named.append(record)
        else:
            got = "none" if not matches else f"{len(matches)}, {matches[0].path} and {matches[1].path}"
            wrong.append(
                f"{record.index}: image {record.file_name[:120]!r}: must be one file below {root}, got {got}; "
                "add it, or remove it from the annotations"
            )
    entries = [
        Entry(
            sample,
            (image.path, record.index),
            _reader(image.path, record),
            is_read_anew=partial(_has_ignored, record),
        )
        for sample, image, record in zip(samples_of(found), found, named, strict=True)
    ]
    used = {image.path for image in found}
    strangers = [image.path.name for image in images if image.path not in used]
    remarks = []
    if strangers:
        shown = ", ".join(strangers[:3]) + (", .." if len(strangers) > 3 else "")
        remarks.append(f"{root}: left out {len(strangers)} images without annotations: {shown}")
    return LayoutSource(root, kind, entries, wrong, strict=strict, remarks=remarks)


def _reader(path: Path, record: Record) -> Callable[[], tuple[Pixels, Annotation]]:
    def read() -> tuple[Pixels, Annotation]:
        image = read_data_image(path)
        height, width = image.shape[:2]
        if record.size is not None and record.size != (width, height):
            raise DataError(
                f"{path}: must have the size that {record.index} gives, {record.size[0]}x{record.size[1]}, "
                f"got {width}x{height}; use the image that was annotated"
            )
        where = f"{record.index}: image {Path(record.file_name).name[:120]!r}"
        shapes, remarks = record.shapes(height, width)
        painted = paint(shapes, height, width, where)
        ignored = record.ignored()
        labels = painted.labels
        if ignored:
            labels = marked_outside(labels, ~covered(ignored, height, width, where))
        named = tuple(remark.replace(str(record.index), where, 1) for remark in remarks)
        return image, Annotation(labels, painted.classes, named + painted.remarks)

    return read


def _has_ignored(record: Record) -> bool:
    try:
        return bool(record.ignored())
    except DataError:  # `read` says it
        return False
