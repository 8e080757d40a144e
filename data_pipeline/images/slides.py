"""Whole slides by OpenSlide, where that is installed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.images.pixel_size import square
from searcher.data_pipeline.images.raster import HeadedRaster, ImageHeader, Raster, decoding
from searcher.data_pipeline.tiling import Tile

__all__ = ["open_slide"]


def open_slide(path: Path) -> Raster | None:
    """Return a whole slide as raster at full resolution; None if OpenSlide is missing or cannot read the file's format.

    Raises:
        DataError: OpenSlide knows the file's format, but cannot open it.
    """
    try:
        import openslide
    except ImportError:
        return None
    with decoding(path):
        if openslide.OpenSlide.detect_format(path) is None:
            return None
        return _Slide(path, openslide.OpenSlide(path))


class _Slide(HeadedRaster):
    """A slide's scanned part: what OpenSlide names as its bounds, and QuPath opens; the whole where it names none."""

    def __init__(self, path: Path, slide: Any) -> None:
        self._path = path
        self._slide = slide
        bounds = _bounds(slide)
        self._origin = (bounds.x, bounds.y)
        try:
            sizes = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
        except (KeyError, ValueError):
            sizes = []
        super().__init__(
            ImageHeader(
                height=bounds.height,
                width=bounds.width,
                channels=3,
                dtype=np.dtype(np.uint8),
                colour="rgb",
                pixel_size_um=square(*sizes) if sizes else None,
            )
        )

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return a window uint8[h, w, 3]; white where the slide has no pixels."""
        left, top = self._origin
        with decoding(self._path):
            region = self._slide.read_region(
                (left + window.x, top + window.y), 0, (window.width, window.height)
            )
        white = Image.new("RGB", region.size, (255, 255, 255))
        white.paste(region, mask=region.getchannel("A"))
        return np.asarray(white)

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _bounds(slide: Any) -> Tile:
    """Return the scanned part of a slide, cut to what the slide has; all of it where nothing, or nonsense, is named."""
    width, height = (int(side) for side in slide.dimensions)
    whole = Tile(0, 0, height, width)
    names = ("y", "x", "height", "width")
    try:
        y, x, rows, columns = (int(slide.properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return whole
    top, left = max(0, y), max(0, x)
    bottom, right = min(height, y + rows), min(width, x + columns)
    return Tile(top, left, bottom - top, right - left) if top < bottom and left < right else whole
