"""What a dataset is to the rest of the pipeline: samples with names, and a way to read each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["RGB", "SPLITS", "Pixels", "Sample", "SampleSource"]

RGB = ("red", "green", "blue")
"""Channels of a colour image; a grey one of 8 bits has three equal ones."""

SPLITS = ("train", "testA", "testB")
"""Splits that GlaS comes with. Others may have any. Validation images are those of `val`, else some of `train`."""


@dataclass(frozen=True)
class Sample:
    """One image of a data set without its pixels: name, split, patient, stratum and pixel size."""

    id: str
    """Unique name within the dataset, such as `train_1`."""
    split: str
    """Any word; `train` and `val` are trained and validated on."""
    group: str
    """Who the image is of: images of one patient share it. The image's own id where nobody knows."""
    stratum: str
    """What splits balance, such as the grade; empty where unknown."""
    pixel_size_um: float | None = field(default=None, repr=False)
    """Side of a pixel in micrometres, None where unknown. Not in the repr, which fingerprints are made of."""


@runtime_checkable
class SampleSource(Protocol):
    """A data set: its samples' names are known at once, their pixels are read when requested.

    Constructing a source is cheap: it reads names and headers, no pixels. `read` and `fingerprint` may be called from
    any process, and return the same as long as the files stay the same. After `fingerprint`, `read` returns the pixels
    that were fingerprinted, or raises an error: see `searcher.data_pipeline.datasets.contents`.
    """

    @property
    def name(self) -> str:
        """Short name of the data set for people, such as that of its folder."""

    @property
    def kind(self) -> str:
        """Name of the data set's layout, such as `glas`."""

    @property
    def licence(self) -> str:
        """What may be done with the images, in a sentence; empty if it is not known."""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in micrometres; None if it is not known."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, the same for all images. Colour and 8 bit grey have red, green and blue."""

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """Type of the pixels, the same for all images."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in a stable order."""

    def fingerprint(self) -> str:
        """Return the SHA-256 of all content, names, splits, groups and strata, as 64 hexadecimal digits."""

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return the image, `dtype`[H, W, C], and the instance label map, int32[H, W], of `samples[index]`.

        In a label map 0 is background, -1 is not annotated, and every other number is an object.

        Raises:
            ChangedDataError: A file has changed since the fingerprint was taken.
            DataError: A file cannot be decoded, or has other content than expected; the message names it.
        """
