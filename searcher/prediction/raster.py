"""Images as they are read for prediction: window by window, whatever their size."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.exceptions import DataError
from data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.prediction.scratch import Closing

__all__ = ["MAX_SCALE", "ArrayRaster", "Raster", "Resampled", "decoding"]

MAX_SCALE = 16.0
"""An image is enlarged or reduced at most by this factor: beyond it, a pixel size is wrong."""
_MARGIN_PX = 2
"""Pixels of the resampled image around a window whose sources may count in it."""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever decoders raise at a damaged file into a UserError that names it; not that a disk is full."""
    try:
        yield
    except UserError:
        raise
    except DataError as error:
        raise UserError(str(error)) from error
    except Exception as error:  # zlib, struct, Pillow, libjpeg, tifffile each have their own
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: the file must decode as an image, got {reason}; replace the file"
        ) from error


class Raster(Protocol):
    """An image of any size. A context manager: whatever it holds open goes with it."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in um; None where the file does not say it."""

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return uint8[h, w, 3], RGB, of a window that lies in the image.

        Raises:
            UserError: The file does not decode there.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ArrayRaster(Closing):
    """An image in memory.

    Args:
        pixels: uint8[H, W, 3], RGB.
        pixel_size_um: Side of a pixel, if known.
    """

    def __init__(self, pixels: NDArray[np.uint8], pixel_size_um: float | None = None) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]
        self.pixel_size_um = pixel_size_um

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return uint8[h, w, 3] of a window."""
        return self._pixels[window.window]


class Resampled(Closing):
    """Another raster at another size, each window as if the whole had been resized: seams of one grey level at most.

    Bilinear; on the way down each pixel is the weighted mean of all that it stands for (a triangle as wide as two of
    its pixels), so nothing is skipped.

    Args:
        source: The raster; stays open.
        scale: Pixels of the new one per pixel of the source, from 1 / `MAX_SCALE` to `MAX_SCALE`.
    """

    def __init__(self, source: Raster, scale: float) -> None:
        assert 1 / MAX_SCALE <= scale <= MAX_SCALE, scale
        self._source = source
        self.height = max(1, round(source.height * scale))
        self.width = max(1, round(source.width * scale))
        self.pixel_size_um = None if source.pixel_size_um is None else source.pixel_size_um / scale

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return uint8[h, w, 3] of a window."""
        top, bottom, y = _span(window.y, window.height, self.height, self._source.height)
        left, right, x = _span(window.x, window.width, self.width, self._source.width)
        pixels = self._source.read(Tile(y[0], x[0], y[1] - y[0], x[1] - x[0]))
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(
            (window.width, window.height),
            Image.Resampling.BILINEAR,
            box=(left - x[0], top - y[0], right - x[0], bottom - y[0]),
        )
        return np.asarray(resized)


def _span(start: int, length: int, size: int, source_size: int) -> tuple[float, float, tuple[int, int]]:
    """Return where pixels lie in the source along one axis, and the whole pixels of it that count for them."""
    ratio = source_size / size
    low, high = start * ratio, min((start + length) * ratio, float(source_size))
    margin = math.ceil(_MARGIN_PX * max(ratio, 1.0))
    return low, high, (max(0, math.floor(low) - margin), min(source_size, math.ceil(high) + margin))
