"""Images at another size than their own, window by window."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.scratch import Closing
from searcher.data_pipeline.tiling import Tile

__all__ = ["MAX_SCALE", "Resampled"]

MAX_SCALE = 16.0
"""An image is enlarged or reduced at most by this factor: beyond it, a pixel size is wrong."""
_MARGIN_PX = 2
"""Pixels of the resampled image around a window whose sources may count in it."""


class Resampled(Closing):
    """A raster that shows another one at another size, resized window by window.

    The result equals that of resizing the whole image, up to one grey level at the windows' edges. Interpolation is
    bilinear. When shrinking, each pixel is the weighted mean of all pixels that it replaces (a triangle twice as wide
    as one new pixel), so none is skipped.

    Args:
        source: The other raster; it stays open.
        scale: Factor on height and width, from 1 / `MAX_SCALE` to `MAX_SCALE`.
    """

    def __init__(self, source: Raster, scale: float) -> None:
        assert 1 / MAX_SCALE <= scale <= MAX_SCALE, scale
        self._source = source
        self.height = max(1, round(source.height * scale))
        self.width = max(1, round(source.width * scale))
        self.pixel_size_um = None if source.pixel_size_um is None else source.pixel_size_um / scale
        self.header = replace(
            source.header, height=self.height, width=self.width, pixel_size_um=self.pixel_size_um
        )

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return the pixels of a window, uint8[h, w, C]."""
        top, bottom, y = _span(window.y, window.height, self.height, self._source.height)
        left, right, x = _span(window.x, window.width, self.width, self._source.width)
        pixels = self._source.read(Tile(y[0], x[0], y[1] - y[0], x[1] - x[0]))
        box = (left - x[0], top - y[0], right - x[0], bottom - y[0])
        size = (window.width, window.height)
        if pixels.shape[2] == 3:
            return _resized(pixels, size, box)
        return np.stack([_resized(channel, size, box) for channel in np.moveaxis(pixels, 2, 0)], axis=2)


def _resized(
    pixels: NDArray[np.uint8], size: tuple[int, int], box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))


def _span(start: int, length: int, size: int, source_size: int) -> tuple[float, float, tuple[int, int]]:
    """Return where pixels lie in the source along one axis, and the whole pixels of it that count for them."""
    ratio = source_size / size
    low, high = start * ratio, min((start + length) * ratio, float(source_size))
    margin = math.ceil(_MARGIN_PX * max(ratio, 1.0))
    return low, high, (max(0, math.floor(low) - margin), min(source_size, math.ceil(high) + margin))
