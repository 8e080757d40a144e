"""What a dataset is to the rest of the pipeline: samples with names, and a way to read each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["RGB", "SPLITS", "Pixels", "Sample", "SampleSource"]

RGB = ("red", "green", "blue")
"""Channels of a colour image; a grey one of 8 bits has three equal ones."""

Pixels = NDArray[np.uint8 | np.uint16]
"""An image or a crop of one, [H, W, C]."""

SPLITS = ("train", "testA", "testB")
"""Splits that GlaS comes with. Others may have any. Validation images are those of `val`, else some of `train`."""


@dataclass(frozen=True)
class Sample:
    """What is known of one image besides its pixels."""

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
    """A dataset: names at once, pixels on request.

    Constructing a source is cheap: names and headers, no pixels. `read` and `fingerprint` may be called from
    any process and give the same answer as long as the files stay the same. After `fingerprint`, `read` gives
    what was fingerprinted, or raises: see `searcher.data_pipeline.datasets.contents`.
    """

    @property
    def name(self) -> str:
        """Short name for people, such as the folder's."""

    @property
    def kind(self) -> str:
        """Layout, such as `glas`."""

    @property
    def licence(self) -> str:
        """What may be done with the images, in a sentence; empty where nobody said."""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in micrometres, None where nobody said."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the images' channels, the same for all of them; `RGB` for colour and 8 bit grey."""

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """Type of the images' values, the same for all of them."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in a stable order."""

    def fingerprint(self) -> str:
        """Return the SHA-256 of content, names, splits, groups and strata: 64 hexadecimal digits."""

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        """Return image `dtype`[H, W, C] and instance label map int32[H, W] of `samples[index]`.

        In a label map 0 is background, -1 is not annotated, and every other number is an object.

        Raises:
            ChangedDataError: It is no longer what the fingerprint was last taken of.
            DataError: A file that does not decode or holds something else; the message names it.
        """
