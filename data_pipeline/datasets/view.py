"""A data set seen as the user says: what its labels mean, whose the images are, at which pixel size."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.regions import ValidationRegion, split_by_region
from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import same_name
from searcher.data_pipeline.unannotated import check_annotated, is_partial, marked_value, objects_only

__all__ = ["LABELS_ARE", "DataView", "LabelsAre", "objects_of", "viewed"]

logger = logging.getLogger(__name__)

LabelsAre = Literal["", "instances", "binary", "binary-inverted", "binary-watershed", "classes"]
LABELS_ARE: tuple[LabelsAre, ...] = get_args(LabelsAre)[1:]
"""What can be said of label maps."""

_SHOWN = 5
_SAME_SIZE = 1.02
"""Images within this ratio of the wanted pixel size are not resized."""
_MAX_FACTOR = 16.0
"""Images are resized by at most this factor."""


@dataclass(frozen=True)
class DataView:
    """How to read a data set: the meaning of its labels, its patients, its pixel size. Plain values."""

    labels_are: LabelsAre = ""
    """What label maps hold; empty: one number per object, unless the evidence speaks against it."""
    patient_from: str = ""
    """Regular expression whose one group, found in an image's name, is the patient; empty: as the data set says."""
    resample_um: float | None = None
    """Side in micrometres to which pixels are resampled; None leaves images as they are."""
    not_annotated: int | None = None
    """Number that label maps have where nothing is annotated, in addition to -1; None: there is no such number."""
    val_region: str = ""
    """Part of each training image that is validated on, see `ValidationRegion.parse`; empty: whole images are."""

    @property
    def is_plain(self) -> bool:
        """Whether this view leaves the data set unchanged."""
        return (
            self.labels_are in ("", "instances")
            and not self.patient_from
            and self.resample_um is None
            and self.not_annotated is None
            and not self.val_region
        )


def viewed(source: SampleSource, view: DataView) -> SampleSource:
    """Return a data set as a view changes it; the data set itself if the view changes nothing.

    Raises:
        DataError: A name does not match the pattern for patients, an image has no pixel size to resample from, or the
            region for validation does not fit the data set.
    """
    whole = replace(view, val_region="")
    seen = source if whole.is_plain else _ViewedSource(source, whole)
    return split_by_region(seen, ValidationRegion.parse(view.val_region)) if view.val_region else seen


class _ViewedSource:
    """A `SampleSource` made of another one."""

    def __init__(self, source: SampleSource, view: DataView) -> None:
        self._source = source
        self._view = view
        self.samples: Sequence[Sample] = _samples(source, view)

    def __getattr__(self, name: str) -> Any:  # name, kind, licence, problems and what else the data set says
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in micrometres after resampling; without resampling, that of the data set."""
        return self._view.resample_um or self._source.pixel_size_um

    def fingerprint(self) -> str:
        """Return the SHA-256 of the data set's fingerprint and of the view's changes."""
        groups = [sample.group for sample in self.samples] if self._view.patient_from else []
        seen: tuple[object, ...] = (
            self._source.fingerprint(),
            self._view.labels_are,
            groups,
            self._view.resample_um,
        )
        if self._view.not_annotated is not None:  # left out where it says nothing: digests of before stay
            seen += (self._view.not_annotated,)
        return hashlib.sha256(repr(seen).encode()).hexdigest()

    def read(self, index: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return the image and label map of one sample, changed as the view says."""
        # Of a mask of 1 bit, `read` has made objects already.
        read = (
            getattr(self._source, "read_stored", self._source.read)
            if self._view.labels_are
            else self._source.read
        )
        return self._seen(index, *read(index))

    def read_annotated(self, index: int) -> tuple[NDArray[Any], Annotation]:
        """Return one sample's image, and its annotation with the classes of the objects left after resampling.

        If the view makes other objects of the label map, there are no classes, because those belong to the file's own
        objects.
        """
        annotated = getattr(self._source, "read_annotated", None)
        if annotated is None or self._view.labels_are not in ("", "instances"):
            image, labels = self.read(index)
            return image, Annotation(labels)
        if self._view.labels_are and hasattr(self._source, "read_stored"):  # which is what `read` takes then
            image, labels = self.read(index)
            of_source = getattr(self._source, "object_classes", None)
            annotation = Annotation(labels, {} if of_source is None else of_source(index))
        else:
            image, annotation = annotated(index)
            image, labels = self._seen(index, image, annotation.labels)
        left = set(np.unique(labels).tolist())
        classes = {label: name for label, name in annotation.classes.items() if label in left}
        return image, replace(annotation, labels=labels, classes=classes)

    def _seen(
        self, index: int, image: NDArray[Any], labels: NDArray[np.int32]
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        labels = marked_value(labels, self._view.not_annotated)
        check_annotated(self.samples[index].id, labels)
        labels = objects_of(labels, self._view.labels_are)
        size = self._source.samples[index].pixel_size_um
        if self._view.resample_um is None or size is None:
            return image, labels
        return _resampled(image, labels, size / self._view.resample_um)


def _samples(source: SampleSource, view: DataView) -> tuple[Sample, ...]:
    samples = tuple(source.samples)
    if view.patient_from:
        # One patient, whose letters some files compose and others do not, must not be two.
        pattern = re.compile(same_name(view.patient_from))
        found = [pattern.search(same_name(sample.id)) for sample in samples]
        without = [s.id for s, match in zip(samples, found, strict=True) if not (match and match[1])]
        if without:
            raise DataError(
                f"{source.name}: every image's name must have a patient by --patient-from '{view.patient_from}', "
                f"got none in {_listed(without)}; correct the expression, or use samples.csv"
            )
        samples = tuple(
            replace(sample, group=match[1])
            for sample, match in zip(samples, found, strict=True)
            if match is not None
        )
    if view.resample_um is not None:
        samples = _sizes_known(source, samples, view.resample_um)
    return samples


def _sizes_known(source: SampleSource, samples: Sequence[Sample], wanted: float) -> tuple[Sample, ...]:
    without = [sample.id for sample in samples if sample.pixel_size_um is None]
    if without:
        raise DataError(
            f"{source.name}: --resample-um {wanted:g} needs the pixel size of every image, got none for "
            f"{_listed(without)}; add the column pixel_size_um to samples.csv"
        )
    far = [
        f"{sample.id} ({sample.pixel_size_um:g} um)"
        for sample in samples
        if sample.pixel_size_um and not 1 / _MAX_FACTOR <= sample.pixel_size_um / wanted <= _MAX_FACTOR
    ]
    if far:
        raise DataError(
            f"{source.name}: --resample-um {wanted:g} must be within a factor of {_MAX_FACTOR:g} of the images' own, "
            f"got {_listed(far)}; correct the sizes, or give another one"
        )
    return tuple(replace(sample, pixel_size_um=wanted) for sample in samples)


def _listed(names: Sequence[str]) -> str:
    more = f", .. ({len(names)} images)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def objects_of(labels: NDArray[np.int32], labels_are: LabelsAre) -> NDArray[np.int32]:
    """Return a label map with one number per object, made of the stored values.

    Args:
        labels: int32[H, W], the stored values; -1, for pixels that are not annotated, stays.
        labels_are: Meaning of the stored values. `binary`: each 8-connected piece above half of the largest value is an
            object; `binary-inverted`: each piece up to half. `binary-watershed` also cuts the pieces at their necks.
            `classes`: each connected piece of one value is an object. Empty or `instances`: unchanged.
    """
    if labels_are in ("", "instances"):
        return labels
    if is_partial(labels):
        found = objects_of(objects_only(labels), labels_are)
        return np.where(labels < 0, labels, found)
    from skimage.measure import label

    if labels_are == "classes":
        pieces: NDArray[np.int32] = label(labels, background=0, connectivity=2).astype(np.int32)
        return pieces
    top = int(labels.max(initial=0))
    foreground = labels > top // 2 if labels_are != "binary-inverted" else labels <= top // 2
    if labels_are == "binary-inverted" and not top:
        foreground[:] = False  # an image of one value only is all background
    if labels_are == "binary-watershed":
        return _cut_at_necks(foreground)
    _, components = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(components, np.int32)


def _cut_at_necks(foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the foreground cut by a watershed from the peaks of the distance to the background.

    A peak counts where it is at least 1 px and a tenth of its own height above the saddle to a higher one.
    """
    from skimage.measure import label
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    padded = np.pad(foreground.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    lowered = reconstruction(np.minimum(distance - 1.0, 0.9 * distance), distance)
    peaks = label((distance - lowered >= np.maximum(0.999, 0.099 * distance)) & foreground, connectivity=2)
    cut = watershed(-distance, peaks, mask=foreground, connectivity=2)
    return np.asarray(cut, np.int32)


def _resampled(
    image: NDArray[Any], labels: NDArray[np.int32], factor: float
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return both enlarged by a factor: the image by area or linear interpolation, labels by the nearest pixel."""
    if 1 / _SAME_SIZE <= factor <= _SAME_SIZE:
        return image, labels
    height, width = (max(1, round(side * factor)) for side in labels.shape)
    by = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=by).reshape(height, width, -1)
    rows = np.minimum((np.arange(height) + 0.5) / height * labels.shape[0], labels.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) / width * labels.shape[1], labels.shape[1] - 1).astype(int)
    return np.ascontiguousarray(resized), np.ascontiguousarray(labels[rows[:, None], columns])
