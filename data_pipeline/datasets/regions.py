"""Images of one patient, or one image alone: each is cut in two, and one part of it is validated on.

The figures then say how well a network does on other tissue of the same images, and nothing about other patients.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.unannotated import check_annotated

__all__ = ["ValidationRegion", "split_by_region"]

Side = Literal["left", "right", "top", "bottom"]
_DEFAULT_SHARE = 0.25
_VALIDATION = ("val", "valid", "validation")


@dataclass(frozen=True)
class ValidationRegion:
    """The part of each training image that is used for validation: a side, and a share of the image."""

    side: Side
    """Where it lies."""
    share: float
    """How much of the image it is, 0..1."""

    @classmethod
    def parse(cls, text: str) -> "ValidationRegion":
        """Return the region that a text such as `right` or `bottom:0.3` describes.

        Raises:
            DataError: The text is not such a region.
        """
        name, _, share_text = text.partition(":")
        try:
            share = float(share_text) if share_text else _DEFAULT_SHARE
        except ValueError:
            share = 0.0
        if name not in get_args(Side) or not 0.05 <= share <= 0.95:
            raise DataError(
                f"--val-region {text}: must be one of {', '.join(get_args(Side))}, alone or with a share from 0.05 to "
                f"0.95 as in right:0.25, got {text!r}; give one of them"
            )
        return cls(name, share)  # type: ignore[arg-type]  # checked above

    def windows(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the windows of an image to train on and to validate on, each as a slice of rows and one of columns.

        Args:
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.

        Raises:
            DataError: The image is too small to be cut.
        """
        length = width if self.side in ("left", "right") else height
        num = round(self.share * length)
        if not 0 < num < length:
            raise DataError(
                f"--val-region: must leave both parts a pixel, got {width}x{height} px; leave it out"
            )
        is_first = self.side in ("left", "top")
        cut = num if is_first else length - num
        parts = (slice(cut, length), slice(0, cut)) if is_first else (slice(0, cut), slice(cut, length))
        whole = slice(0, height if self.side in ("left", "right") else width)
        train, val = ((whole, part) if self.side in ("left", "right") else (part, whole) for part in parts)
        return train, val


def split_by_region(source: SampleSource, region: ValidationRegion) -> SampleSource:
    """Return a data set in which each image of the split `train` is cut in two: one for training, one for `val`.

    Args:
        source: The data set.
        region: The part of each image that is used for validation.

    Raises:
        DataError: The data set has validation images of its own.
    """
    given = [sample.id for sample in source.samples if sample.split in _VALIDATION]
    if given:
        raise DataError(
            f"{source.name}: --val-region must be for a data set without validation images, got {len(given)} of them "
            f"({given[0]}); leave it out"
        )
    return _SplitSource(source, region)


class _SplitSource:
    """A `SampleSource` of the parts of another one's images."""

    def __init__(self, source: SampleSource, region: ValidationRegion) -> None:
        self._source = source
        self._region = region
        self._parts: list[tuple[int, str]] = [
            (index, part)
            for index, sample in enumerate(source.samples)
            for part in (("train", "val") if sample.split == "train" else ("",))
        ]
        self.samples: Sequence[Sample] = [
            _part_of(source.samples[index], part) for index, part in self._parts
        ]

    def __getattr__(self, name: str) -> Any:  # name, kind, licence, channels and what else the data set says
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the uncut data set's fingerprint and of the region."""
        return hashlib.sha256(repr((self._source.fingerprint(), self._region)).encode()).hexdigest()

    def read(self, index: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return the image and label map of one sample, cut out of the whole image."""
        of_source, part = self._parts[index]
        return self._cut(self.samples[index].id, part, *self._source.read(of_source))

    def read_annotated(self, index: int) -> tuple[NDArray[Any], Annotation]:
        """Return one sample's image, cut out of the whole image, and its annotation with the classes of its objects."""
        of_source, part = self._parts[index]
        annotated = getattr(self._source, "read_annotated", None)
        if annotated is None:
            image, labels = self.read(index)
            return image, Annotation(labels)
        image, annotation = annotated(of_source)
        image, labels = self._cut(self.samples[index].id, part, image, annotation.labels)
        left = set(np.unique(labels).tolist())
        classes = {label: name for label, name in annotation.classes.items() if label in left}
        return image, replace(annotation, labels=labels, classes=classes)

    def _cut(
        self, name: str, part: str, image: NDArray[Any], labels: NDArray[np.int32]
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        if not part:
            return image, labels
        train, val = self._region.windows(*labels.shape)
        window = train if part == "train" else val
        check_annotated(name, labels[window])
        return image[window], labels[window]


def _part_of(sample: Sample, part: str) -> Sample:
    """Return a part of a sample. Each has a group of its own, since the two are on both sides of the split."""
    if not part:
        return sample
    group = f"{sample.group}.{part}"
    return replace(sample, id=f"{sample.id}.{part}", split=part, group=group)
