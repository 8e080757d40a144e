"""What is in a dataset, and what is wrong with which file."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.annotations import problem_of
from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.exposure import Exposure, NormalisationChoice, choose_normalisation, exposure_of
from searcher.data_pipeline.label_evidence import LabelFacts, label_facts
from searcher.data_pipeline.store.classes import alike_names
from searcher.data_pipeline.unannotated import objects_only, unannotated_remark

__all__ = ["DatasetReport", "InstanceStatistics", "SplitContents", "inspect_dataset"]

_QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


@dataclass(frozen=True)
class InstanceStatistics:
    """Number and size of the instances in some label maps."""

    count: int
    """Instances in all."""
    per_image: dict[str, float]
    """Quantiles of the number in one image, by name: `min`, `1%`, `25%`, `50%`, `75%`, `99%`, `max`."""
    area_px: dict[str, float]
    """The same quantiles of an instance's area in pixels."""
    foreground: float
    """Part of all annotated pixels that belong to an instance, 0..1."""


@dataclass(frozen=True)
class SplitContents:
    """What one split of a data set contains."""

    num_images: int
    """Readable images."""
    num_groups: int
    """Patients."""
    strata: dict[str, int]
    """Images by grade; the empty name is an unknown grade."""
    sizes: dict[str, int]
    """Images by size, `WIDTHxHEIGHT`, the most frequent first."""
    instances: InstanceStatistics
    """Their instances."""
    classes: dict[str, int]
    """Instances by class, the most frequent first; the empty name: instances without one. Empty where no instance of
    the whole data set has a class."""


@dataclass(frozen=True)
class DatasetReport:
    """What a data set contains, and its problems."""

    name: str
    """The dataset's name."""
    kind: str
    """Its layout."""
    num_images: int
    """Readable images."""
    num_groups: int
    """Patients, over all splits."""
    channels: tuple[str, ...]
    """Names of the images' channels."""
    dtype: str
    """Type of the images' values, `uint8` or `uint16`."""
    normalisation: str
    """What `data.normalisation = "auto"` means for them, and why."""
    splits: dict[str, SplitContents]
    """By split."""
    problems: tuple[str, ...]
    """What makes files unusable: one line each, naming the file."""
    remarks: tuple[str, ...]
    """What is usable and yet looks odd: one line each, naming the sample."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as nested plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Image:
    """What is kept of one image."""

    sample: Sample
    height: int
    width: int
    areas: NDArray[np.int64]
    facts: LabelFacts
    exposure: Exposure | None
    annotated: float
    """Part of its pixels, 0..1."""
    classes: dict[int, str]
    """Class by label, of the instances that have one."""


def inspect_dataset(
    source: SampleSource,
    *,
    labels_are_said: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Return a report of what a data set contains. Reads every file; one that cannot be read becomes a problem.

    Args:
        source: The data set. Open a folder with `strict=False` to have unusable files reported here.
        labels_are_said: Whether the user has said what the label maps hold. Then they are not judged by their values.
        progress: Called with (images done, images in all).
    """
    problems: list[str] = list(getattr(source, "problems", ()))
    remarks: list[str] = []
    images: list[_Image] = []
    for i, sample in enumerate(source.samples):
        try:
            pixels, labels, classes = _read(source, i)
        except DataError as error:
            problems.extend(error.problems)
        else:
            values, areas = np.unique(labels[labels > 0], return_counts=True)
            facts = label_facts(labels)
            is_rgb = pixels.dtype == np.uint8 and pixels.shape[2] == 3
            exposure = exposure_of(pixels.astype(np.uint8, copy=False)) if is_rgb else None
            images.append(
                _Image(
                    sample,
                    labels.shape[0],
                    labels.shape[1],
                    areas.astype(np.int64),
                    facts,
                    exposure,
                    float((labels >= 0).mean()),
                    classes,
                )
            )
            remarks.extend(
                f"{sample.id}: {remark}" for remark in _remarks(objects_only(labels), values, areas)
            )
        if progress is not None:
            progress(i + 1, len(source.samples))
    remarks.extend(getattr(source, "remarks", ()))
    by_split: dict[str, list[_Image]] = {}
    for image in images:
        by_split.setdefault(image.sample.split, []).append(image)
    if not labels_are_said:
        _judge(source.name, by_split, problems, remarks)
    remarks += _class_remarks(source, images)
    remarks += _whole_remarks([image.sample for image in images])
    if remark := unannotated_remark(source.name, [image.annotated for image in images]):
        remarks.append(remark)
    return DatasetReport(
        name=source.name,
        kind=source.kind,
        num_images=len(images),
        num_groups=len({image.sample.group for image in images}),
        channels=source.channels,
        dtype=source.dtype,
        normalisation=str(_choice(source, images)),
        splits={
            split: _split_report(members, has_classes=any(image.classes for image in images))
            for split, members in by_split.items()
        },
        problems=tuple(problems),
        remarks=tuple(remarks),
    )


def _choice(source: SampleSource, images: Sequence[_Image]) -> NormalisationChoice:
    """Return the normalisation of what is trained on: of all images, where no split is for training."""
    trained = [image for image in images if not image.sample.split.startswith("test")] or images
    exposures = (image.exposure for image in trained if image.exposure is not None)
    return choose_normalisation(len(source.channels), source.dtype, exposures)


def _judge(name: str, by_split: dict[str, list[_Image]], problems: list[str], remarks: list[str]) -> None:
    """Add what the label maps are instead of label maps: what `train` refuses is a problem, the rest a remark."""
    for split, members in by_split.items():
        found = problem_of(
            f"{name}, split {split}", [each.sample.id for each in members], [each.facts for each in members]
        )
        if found is not None:
            line, verdict = found
            # GlaS's test B has images in which one label covers all glands, and is measured all the same.
            is_refused = verdict.is_sure and (verdict.is_of_all or not split.startswith("test"))
            (problems if is_refused else remarks).append(line)
    if by_split and not any(each.facts.num_labels for members in by_split.values() for each in members):
        remarks.append(f"{name}: no image holds an object, so train and launch refuse it")


def _whole_remarks(samples: Sequence[Sample]) -> list[str]:
    """Return what nobody said of a whole data set, or said of a part: patients and pixel sizes."""
    remarks = []
    if samples and all(sample.group == sample.id for sample in samples):
        remarks.append(
            "patients are unknown: every image counts as one; name them in samples.csv (id, patient)"
        )
    sizes = Counter(
        "unknown" if sample.pixel_size_um is None else f"{sample.pixel_size_um:.3g} um" for sample in samples
    )
    if len(sizes) > 1:
        counts = ", ".join(f"{size} in {count} images" for size, count in sizes.most_common())
        remarks.append(f"pixel sizes differ: {counts}")
    return remarks


def _split_report(images: Sequence[_Image], *, has_classes: bool) -> SplitContents:
    areas = np.concatenate([image.areas for image in images])
    pixels = sum(image.height * image.width * image.annotated for image in images)
    return SplitContents(
        num_images=len(images),
        num_groups=len({image.sample.group for image in images}),
        strata=dict(Counter(image.sample.stratum for image in images)),
        sizes=dict(Counter(f"{image.width}x{image.height}" for image in images).most_common()),
        instances=InstanceStatistics(
            count=len(areas),
            per_image=_quantiles(np.array([len(image.areas) for image in images])),
            area_px=_quantiles(areas),
            foreground=float(areas.sum() / pixels),
        ),
        classes=dict(_num_by_class(images).most_common()) if has_classes else {},
    )


def _read(source: SampleSource, index: int) -> tuple[NDArray[Any], NDArray[np.int32], dict[int, str]]:
    """Return image, label map, and the class of each instance that has one."""
    annotated = getattr(source, "read_annotated", None)
    if annotated is None:
        return (*source.read(index), {})
    image, annotation = annotated(index)
    return image, annotation.labels, annotation.classes


def _num_by_class(images: Sequence[_Image]) -> Counter[str]:
    """Return how many instances have each class; the empty name: none."""
    found = Counter(name for image in images for name in image.classes.values())
    without = sum(len(image.areas) - len(image.classes) for image in images)
    return found + Counter({"": without})


def _class_remarks(source: SampleSource, images: Sequence[_Image]) -> list[str]:
    """Return what is odd about the names of the classes."""
    names = sorted({name for image in images for name in image.classes.values()})
    declared: tuple[str, ...] = getattr(source, "declared_classes", ())
    lines = [f"{source.name}: {line}" for line in alike_names(names)]
    if declared and names:
        lines += [
            f"{source.name}: objects.csv has the class {name!r}, which dataset.toml does not name; to learn classes, "
            "correct one of them"
            for name in names
            if name not in declared
        ]
        lines += [
            f"{source.name}: no object has the class {name!r}, which dataset.toml names"
            for name in declared
            if name not in names
        ]
    return lines


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    if not len(values):
        return {}
    names = ["min", *(f"{round(100 * q)}%" for q in _QUANTILES[1:-1]), "max"]
    return dict(zip(names, (float(v) for v in np.quantile(values, _QUANTILES)), strict=True))


def _remarks(labels: NDArray[np.int32], values: NDArray[np.int32], areas: NDArray[np.int64]) -> list[str]:
    if not len(values):
        return ["no instance is annotated"]
    boxes = _boxes(labels, areas)
    pieces = [int(v) for v, box in zip(values, boxes, strict=True) if _num_pieces(labels, int(v), box) > 1]
    if not pieces:
        return []
    shown = ", ".join(map(str, pieces[:5])) + (", .." if len(pieces) > 5 else "")
    what = "the only label" if len(values) == 1 else f"{len(pieces)} of {len(values)} labels ({shown})"
    return [f"{what} lies in several separate pieces; is it one instance?"]


def _num_pieces(labels: NDArray[np.int32], value: int, box: tuple[slice, slice]) -> int:
    num, _ = cv2.connectedComponents((labels[box] == value).astype(np.uint8), connectivity=8)
    return int(num) - 1


def _boxes(labels: NDArray[np.int32], areas: NDArray[np.int64]) -> list[tuple[slice, slice]]:
    """Return every instance's bounding box, in ascending order of the labels; `areas` are in the same order."""
    y, x = np.nonzero(labels)
    order = np.argsort(labels[y, x], kind="stable")
    y, x, first = y[order], x[order], np.cumsum(areas) - areas
    top, left = np.minimum.reduceat(y, first), np.minimum.reduceat(x, first)
    bottom, right = np.maximum.reduceat(y, first) + 1, np.maximum.reduceat(x, first) + 1
    return [(slice(t, b), slice(le, r)) for t, b, le, r in zip(top, bottom, left, right, strict=True)]
