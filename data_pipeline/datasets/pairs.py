"""An image file with its annotation file: cheap checks of both, and reading them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import (
    TIFF_SUFFIXES,
    ImageHeader,
    LabelHeader,
    PixelKind,
    kind_of,
    read_data_image,
    read_header,
    read_label_header,
    read_labels,
)
from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["MAX_LABELS", "PairCheck", "SamplePaths", "check_pair", "read_pair"]

MAX_LABELS = 65535
"""Most instances that one image may have."""


@dataclass(frozen=True)
class SamplePaths:
    """A sample, the path of its image, and the path of its annotation."""

    sample: Sample
    image: Path
    annotation: Path


@dataclass(frozen=True)
class PairCheck:
    """The result of `check_pair`: problems, remarks, and the image's channels and depth."""

    problems: tuple[str, ...]
    """What is wrong, one line each."""
    remarks: tuple[str, ...] = ()
    """What viewers may show otherwise than it is read, one line each."""
    kind: PixelKind | None = None
    """The image's channels and depth; None where there are problems."""
    is_read_anew: bool = False
    """Whether earlier releases read these files otherwise, so that earlier stores hold other pixels."""


def check_pair(image: Path, annotation: Path) -> PairCheck:
    """Return the problems and facts that the headers of an image and its annotation show. Decodes no pixels."""
    problems: list[str] = []
    header: ImageHeader | None = None
    labels: LabelHeader | None = None
    kind: PixelKind | None = None
    try:
        header = read_header(image)
        kind = kind_of(image, header)
    except DataError as error:
        problems.extend(error.problems)
    try:
        labels = read_label_header(annotation)
    except DataError as error:
        problems.extend(error.problems)
    if header is None or labels is None:
        return PairCheck(tuple(problems))
    if (header.height, header.width) != (labels.height, labels.width):
        sizes = ((header.height, header.width), (labels.height, labels.width))
        problems.append(_other_size(annotation, *sizes))
    remarks = [
        f"{path}: its orientation tag is {orientation}, which is not followed, as prediction does not: "
        "look whether image and label map match"
        for path, orientation in ((image, header.orientation), (annotation, labels.orientation))
        if orientation != 1
    ]
    turned = any(
        path.suffix.lower() in TIFF_SUFFIXES and orientation != 1
        for path, orientation in ((image, header.orientation), (annotation, labels.orientation))
    )
    return PairCheck(tuple(problems), tuple(remarks), kind=kind, is_read_anew=turned or labels.is_inverted)


def read_pair(pair: SamplePaths) -> tuple[Pixels, NDArray[np.int32]]:
    """Return the image, uint8 or uint16[H, W, C], and its instance label map, int32[H, W].

    Raises:
        DataError: A file cannot be decoded, or the two differ in size, or there are too many instances.
    """
    image, labels = read_data_image(pair.image), read_labels(pair.annotation)
    if image.shape[:2] != labels.shape:
        raise DataError(_other_size(pair.annotation, image.shape[:2], labels.shape))
    if labels.max() > MAX_LABELS:
        num_labels = np.unique(labels).size - 1
        if num_labels > MAX_LABELS:
            raise DataError(
                f"{pair.annotation}: an image may have {MAX_LABELS} instances, got {num_labels}; "
                "cut it into smaller ones"
            )
    return image, labels


def _other_size(annotation: Path, size: tuple[int, ...], got: tuple[int, ...]) -> str:
    return (
        f"{annotation}: an annotation must have its image's size {size[1]}x{size[0]}, got {got[1]}x{got[0]}; "
        "export it again at the image's own resolution"
    )
