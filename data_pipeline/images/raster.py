"""What an image file is to the rest: a header at once, pixels window by window."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.scratch import Closing
from searcher.data_pipeline.tiling import Tile

__all__ = ["ArrayRaster", "Colour", "ImageHeader", "Pixels", "Raster", "decoding"]

Pixels = NDArray[Any]
"""uint8 or uint16[height, width, channels], as the file has them."""

Colour = Literal["grey", "rgb", "channels"]
"""`grey`: one channel; `rgb`: red, green, blue; `channels`: any number of them, each of something else."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Size, channels, type and pixel size of an image, read from its file without decoding pixels."""

    height: int
    width: int
    channels: int
    """Without transparency; 3 where a palette or a colour map gives colours."""
    dtype: np.dtype[Any]
    """uint8 or uint16, of the pixels as `read_image` returns them."""
    colour: Colour
    pixel_size_um: float | None = None
    """Side of a pixel; None where the file does not say it, or nothing to believe."""
    orientation: int = 1
    """The orientation tag of TIFF and EXIF, 1 to 8. It does not change the pixels, which are used as stored."""

    @property
    def depth(self) -> str:
        """A phrase for messages such as `8 bit grey`, `16 bit RGB` or `16 bit, 4 channels`."""
        bits = f"{8 * self.dtype.itemsize} bit"
        return (
            f"{bits}, {self.channels} channels"
            if self.colour == "channels"
            else f"{bits} {_NAMES[self.colour]}"
        )


_NAMES = {"grey": "grey", "rgb": "RGB"}


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Context manager that turns a decoder's errors on a damaged file into a DataError that names the file.

    An error about a full disk passes unchanged.

    Args:
        path: The file that is decoded.
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file must exist, got nothing; restore it") from error
    except PermissionError as error:
        raise DataError(
            f"{path}: the file must be readable, got permission denied; change its mode"
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{path}: the file must be decoded within the memory, got too little; cut the image up"
        ) from error
    except Exception as error:  # zlib, struct, Pillow, libjpeg, tifffile each have their own
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: the file must decode as an image, got {said}; replace the file") from error


class Raster(Protocol):
    """An image of any size, read window by window. A context manager that closes its files."""

    @property
    def header(self) -> ImageHeader:
        """Size, channels, depth, and pixel size."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in micrometres; None if the file does not state it."""

    def read(self, window: Tile) -> Pixels:
        """Return the pixels of a window, [h, w, channels]. The window must lie inside the image.

        Raises:
            DataError: The file cannot be decoded there.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class HeadedRaster(Closing):
    """Base class of rasters whose size and pixel size come from a header.

    Args:
        header: Header of the image.
    """

    def __init__(self, header: ImageHeader) -> None:
        self.header = header
        self.height, self.width = header.height, header.width
        self.pixel_size_um = header.pixel_size_um


class ArrayRaster(HeadedRaster):
    """A raster of an image in memory.

    Args:
        pixels: uint8 or uint16[H, W, channels].
        header: Header of the image's file. By default it is made from the pixels: 1 channel is grey, 3 of 8 bits are
            RGB.
        pixel_size_um: Side of a pixel in micrometres, used if no header is given.
    """

    def __init__(
        self, pixels: Pixels, pixel_size_um: float | None = None, *, header: ImageHeader | None = None
    ) -> None:
        height, width, channels = pixels.shape
        is_rgb = channels == 3 and pixels.dtype == np.uint8
        colour: Colour = "grey" if channels == 1 else "rgb" if is_rgb else "channels"
        super().__init__(
            header
            or ImageHeader(
                height=height,
                width=width,
                channels=channels,
                dtype=pixels.dtype,
                colour=colour,
                pixel_size_um=pixel_size_um,
            )
        )
        self._pixels = pixels

    def read(self, window: Tile) -> Pixels:
        """Return the pixels of a window, [h, w, channels]."""
        return self._pixels[window.window]
