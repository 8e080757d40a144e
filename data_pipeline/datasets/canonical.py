"""Writing any data set as the canonical folder, which `LabelFolder` reads.

images/        ID.png: 8 bit grey or RGB, 16 bit grey; ID.tif where there are other channels
labels/        ID.png, 16 bit, one number for each object; ID.tif, 32 bit, where a number needs it, or -1 is one
samples.csv    id, patient, split, stratum, pixel_size_um; empty where unknown
objects.csv    image, label, class; only where classes are known
dataset.toml   name, licence, pixel size, channels, dtype, classes, and how the folder was made
import.json    what the source was taken for, what was left out and why
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.annotations import problem_of
from searcher.data_pipeline.datasets.object_classes import OBJECTS_FILE
from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.datasets.writing import new_folder
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.label_evidence import LabelFacts, label_facts
from searcher.data_pipeline.unannotated import is_partial, unannotated_remark

__all__ = ["ImportReport", "check_name", "import_dataset", "write_image"]

_FORMAT = 1


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: the counts, classes, files left out and remarks."""

    source: str
    """Where it lies."""
    taken_for: str
    """Its layout."""
    num_images: int
    """Images that were written, or would be."""
    num_objects: int
    """Objects in them."""
    classes: tuple[str, ...]
    """Names of the objects' classes."""
    left_out: tuple[str, ...]
    """What is not in the folder and why: one line each, naming the file."""
    remarks: tuple[str, ...]
    """What was decided where the source leaves it open: one line each."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        return asdict(self)


@dataclass
class _ReadSamples:
    """What is known once every image is read."""

    samples: list[Sample]
    objects: list[tuple[str, int, str]]
    num_objects: int
    problems: list[str]
    facts: list[LabelFacts]
    """Of each sample's label map."""
    annotated: list[float]
    """Annotated part of each, 0..1."""
    remarks: list[str]


def import_dataset(
    source: SampleSource,
    where: str,
    folder: Path | None,
    *,
    labels_are_said: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Write a data set as a folder in the canonical layout, and return a report.

    Images that cannot be read are left out, and the report names them. The folder is written under a temporary name
    next to its place and then renamed: an interrupted import leaves nothing.

    Args:
        source: The data set; open it with `strict=False` to have unusable files left out.
        where: Path or URI of the data set, for the report.
        folder: Folder to write; must be new or empty. None reads everything and writes nothing.
        labels_are_said: Whether the user has said what the label maps hold. Then they are not judged by their values.
        progress: Called with (images done, images in all).

    Raises:
        DataError: The folder is not empty or cannot be written, no image can be read, or the label maps are clearly
            something else.
    """
    with new_folder(folder) if folder is not None else nullcontext() as target:
        found = _ReadSamples([], [], 0, list(getattr(source, "problems", ())), [], [], [])
        for image, labels, sample in _read_all(source, found, progress or (lambda _done, _total: None)):
            if target is not None:
                write_image(target / "images", sample.id, image)
                _write_labels(target / "labels", sample.id, labels)
        if not found.samples:
            raise DataError(*(found.problems or [f"{where}: must hold images, got none; check the path"]))
        if not labels_are_said:
            _judge(where, found)
        if remark := unannotated_remark(where, found.annotated):
            found.remarks.append(remark)
        report = ImportReport(
            source=where,
            taken_for=source.kind,
            num_images=len(found.samples),
            num_objects=found.num_objects,
            classes=tuple(sorted({name for _, _, name in found.objects})),
            left_out=tuple(found.problems),
            remarks=(*getattr(source, "remarks", ()), *found.remarks),
        )
        if target is not None:
            _write_tables(target, source, found)
            (target / "dataset.toml").write_bytes(_description(source, report).encode("utf-8", "replace"))
            text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
            (target / "import.json").write_bytes(text.encode("utf-8", "backslashreplace"))
    return report


def _read_all(
    source: SampleSource, found: _ReadSamples, progress: Callable[[int, int], None]
) -> Iterator[tuple[NDArray[Any], NDArray[np.int32], Sample]]:
    """Yield each image that can be read, and keep account in `found`."""
    annotated = getattr(source, "read_annotated", None)
    for index, sample in enumerate(source.samples):
        try:
            check_name(sample.id)
            if annotated is None:
                image, labels = source.read(index)
                classes: dict[int, str] = {}
            else:
                image, annotation = annotated(index)
                labels, classes = annotation.labels, annotation.classes
        except DataError as error:
            found.problems.extend(error.problems)
        else:
            found.samples.append(sample)
            found.objects += [(sample.id, number, name) for number, name in sorted(classes.items())]
            found.facts.append(label_facts(labels))
            found.annotated.append(float((labels >= 0).mean()))
            found.num_objects += len(np.unique(labels[labels > 0]))
            yield image, labels, sample
        progress(index + 1, len(source.samples))


def _judge(where: str, found: _ReadSamples) -> None:
    """Refuse label maps that are clearly something else, and remark on odd ones, as training does."""
    for split in sorted({sample.split for sample in found.samples}):
        members = [index for index, sample in enumerate(found.samples) if sample.split == split]
        line_and_verdict = problem_of(
            f"{where}, split {split}",
            [found.samples[index].id for index in members],
            [found.facts[index] for index in members],
        )
        if line_and_verdict is None:
            continue
        line, verdict = line_and_verdict
        # GlaS's test B has images in which one label covers all glands.
        if verdict.is_sure and (verdict.is_of_all or not split.startswith("test")):
            raise DataError(line)
        found.remarks.append(line)


def check_name(name: str) -> None:
    """Check that an image's name can be a file's name.

    Raises:
        DataError: The name has a slash, begins with a dot or is longer than 240 bytes.
    """
    if Path(name).name != name or name.startswith(".") or len(os.fsencode(name)) > 240:
        raise DataError(f"{name[:80]}: an image's name must do for a file's, got another; rename the image")


def write_image(folder: Path, name: str, image: NDArray[Any]) -> Path:
    """Write an image as PNG, or as TIFF if PNG cannot hold its channels, and return the file's path.

    A colour image whose channels are all equal is written as grey.

    Args:
        folder: Folder for the file; created if it is missing.
        name: Name of the file, without its ending.
        image: uint8 or uint16[H, W, C].
    """
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.png"
    if image.shape[2] == 3 and image.dtype == np.uint8:
        is_grey = bool((image[..., :1] == image[..., 1:]).all())
        Image.fromarray(image[..., 0] if is_grey else image).save(path)
    elif image.shape[2] == 1:
        Image.fromarray(image[..., 0]).save(path)
    else:
        path = folder / f"{name}.tif"
        tifffile.imwrite(
            path,
            image,
            photometric="minisblack",
            planarconfig="contig",
            compression="zlib",
            extrasamples=["unspecified"] * (image.shape[2] - 1),
        )
    return path


def _write_labels(folder: Path, name: str, labels: NDArray[np.int32]) -> None:
    folder.mkdir(exist_ok=True)
    if is_partial(labels):
        tifffile.imwrite(folder / f"{name}.tif", labels, compression="zlib")
    elif labels.max(initial=0) < 2**16:
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{name}.png")
    else:
        tifffile.imwrite(folder / f"{name}.tif", labels.astype(np.uint32), compression="zlib")


def _write_tables(folder: Path, source: SampleSource, found: _ReadSamples) -> None:
    with (folder / "samples.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        rows = [_known(source, sample) for sample in found.samples]
        columns = [name for name in rows[0] if name in ("id", "split") or any(row[name] for row in rows)]
        writer.writerow(columns)
        for sample, row in zip(found.samples, rows, strict=True):
            # Whose image it is must be said of all or of none: one of an unknown patient is on its own.
            row["patient"] = row["patient"] or sample.id
            writer.writerow([row[name] for name in columns])
    if found.objects:
        with (folder / OBJECTS_FILE).open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            writer = csv.writer(file)
            writer.writerow(("image", "label", "class"))
            writer.writerows(found.objects)


def _known(source: SampleSource, sample: Sample) -> dict[str, str]:
    """Return what is known of an image, by column; nothing where it is unknown."""
    size = sample.pixel_size_um or source.pixel_size_um
    return {
        "id": sample.id,
        "patient": sample.group if sample.group != sample.id else "",
        "split": sample.split,
        "stratum": sample.stratum,
        "pixel_size_um": "" if size is None else repr(float(size)),
    }


def _description(source: SampleSource, report: ImportReport) -> str:
    """Return the text of `dataset.toml`."""
    channels = source.channels
    values: dict[str, object] = {
        "format": _FORMAT,
        "name": source.name,
        "licence": source.licence,
        "pixel_size_um": source.pixel_size_um,
        "channels": list(channels),
        "dtype": source.dtype,
        "classes": list(report.classes),
        "made_by": "searcher data import",
        "made_from": report.source,
        "taken_for": report.taken_for,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # A JSON string, list or number is TOML as well, but for one control character.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"
