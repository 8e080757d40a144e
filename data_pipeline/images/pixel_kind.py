"""What all images of a data set share: how many channels, of how many bits."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.raster import ImageHeader, Pixels

__all__ = ["PixelKind", "as_data", "check_alike", "kind_of"]


@dataclass(frozen=True)
class PixelKind:
    """Number of channels and type of the pixels of an image, after `as_data`."""

    channels: int = 3
    dtype: Literal["uint8", "uint16"] = "uint8"

    @property
    def names(self) -> tuple[str, ...]:
        """Default names of the channels, such as `red`, `green`, `blue`."""
        if self == PixelKind():
            return ("red", "green", "blue")
        if self.channels == 1:
            return ("grey",)
        return tuple(f"channel {number}" for number in range(1, self.channels + 1))

    def require(self, path: Path, pixels: Pixels) -> None:
        """Raise an error if an image has other channels or another depth.

        Args:
            path: The image file, for the message.
            pixels: The image, [H, W, C].

        Raises:
            DataError: The channels or the depth differ.
        """
        got = (pixels.shape[2], pixels.dtype.name)
        if got != (self.channels, self.dtype):
            raise DataError(
                f"{path}: all images of a data set must have the same channels and depth, got {got[0]} channels of "
                f"{got[1]} where the others have {self.channels} of {self.dtype}; convert it, or move it away"
            )

    def __str__(self) -> str:
        bits = "8 bit" if self.dtype == "uint8" else "16 bit"
        if self == PixelKind():
            return f"{bits} RGB or grey"
        return f"{bits} grey" if self.channels == 1 else f"{bits}, {self.channels} channels"


def kind_of(path: Path, header: ImageHeader) -> PixelKind:
    """Return the channels and depth that an image has in a data set, from its header alone.

    Args:
        path: The image file, for messages.
        header: Its header.

    Raises:
        DataError: The image is 16 bit colour: it is not known which range of values to show.
    """
    if header.dtype != np.uint8 and header.colour == "rgb":
        raise DataError(
            f"{path}: an image in colour must have 8 bit, got {header.depth}, and nobody knows which of its levels to "
            "take; choose them in the program that wrote it, and save it as 8 bit RGB; or, if each channel is a dye, "
            "save them as a TIFF with axes CYX"
        )
    if header.dtype == np.uint8:
        return PixelKind(3 if header.channels == 1 else header.channels)
    return PixelKind(header.channels, "uint16")


def as_data(pixels: Pixels) -> Pixels:
    """Return pixels [H, W, C] in a data set's form: 8 bit grey becomes three equal channels, others are unchanged.

    So grey images may be mixed with coloured ones, and networks that were trained on colours accept them.
    """
    if pixels.dtype == np.uint8 and pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels


def check_alike(kinds: Mapping[Path, PixelKind]) -> tuple[PixelKind, list[str], set[Path]]:
    """Return the most frequent channels and depth, a line for each other kind, and the paths of the other images.

    Args:
        kinds: Channels and depth of all images of a data set, by path, in the data set's order.
    """
    if not kinds:
        return PixelKind(), [], set()
    counts = Counter(kinds.values())
    (common, num_common), *others = counts.most_common()
    first = {kind: path for path, kind in reversed([*kinds.items()])}
    problems = [
        f"{first[kind]}: all images of a data set must have the same channels and depth, got {kind} ({num} images) "
        f"where {first[common]} is {common} ({num_common} images); convert them, or make two data sets"
        for kind, num in others
    ]
    return common, problems, {path for path, kind in kinds.items() if kind != common}
