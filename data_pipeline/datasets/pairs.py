"""An image file with its annotation file: cheap checks of both, and reading them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets.base import Sample
from data_pipeline.exceptions import DataError
from data_pipeline.images import read_header, read_label_header, read_labels, read_rgb, require_rgb

__all__ = ["MAX_LABELS", "SamplePaths", "pair_problems", "read_pair"]

MAX_LABELS = 65535
"""Most instances that one image may have."""


@dataclass(frozen=True)
class SamplePaths:
    """A sample and its two files."""

    sample: Sample
    image: Path
    annotation: Path


def pair_problems(image: Path, annotation: Path) -> list[str]:
    """Return what the headers of an image and its annotation tell is wrong, one line each; decodes nothing."""
    problems: list[str] = []
    sizes: list[tuple[int, int]] = []
    try:
        header = read_header(image)
        require_rgb(image, header)
        sizes.append((header.height, header.width))
    except DataError as error:
        problems.extend(error.problems)
    try:
        labels = read_label_header(annotation)
        sizes.append((labels.height, labels.width))
    except DataError as error:
        problems.extend(error.problems)
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        problems.append(_other_size(annotation, *sizes))
    return problems


def read_pair(pair: SamplePaths) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return image uint8[H, W, 3] and instance label map int32[H, W].

    Raises:
        DataError: A file does not decode, or is not what its header promised.
    """
    image, labels = read_rgb(pair.image), read_labels(pair.annotation)
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
