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
    """Channels and depth of an image as a data set has it: see `as_data`."""

    channels: int = 3
    dtype: Literal["uint8", "uint16"] = "uint8"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels, where nobody gave any."""
        if self == PixelKind():
            return ("red", "green", "blue")
        if self.channels == 1:
            return ("grey",)
        return tuple(f"channel {number}" for number in range(1, self.channels + 1))

    def require(self, path: Path, pixels: Pixels) -> None:
        """Refuse pixels of another kind.

        Raises:
            DataError: They are.
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
    """Return what an image file is to a data set; nothing is decoded.

    Raises:
        DataError: It is 16 bit colour: nobody knows which of its levels make the picture.
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
    """Return pixels as data sets have them: 8 bit grey in three equal channels, all else as it is.

    So grey images may be mixed with coloured ones, and networks that were trained on colours take them.
    """
    if pixels.dtype == np.uint8 and pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels


def check_alike(kinds: Mapping[Path, PixelKind]) -> tuple[PixelKind, list[str], set[Path]]:
    """Return what most images are, a line for each other kind, and the images of other kinds.

    Args:
        kinds: Of all images of a data set, in its order.
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
