"""Whole slides by OpenSlide, where that is installed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.tiling import Tile
from searcher.prediction.pixel_size import square
from searcher.prediction.raster import Raster, decoding
from searcher.prediction.scratch import Closing

__all__ = ["open_slide"]


def open_slide(path: Path) -> Raster | None:
    """Open a slide at its full resolution; None where OpenSlide is missing, or does not know the file.

    Raises:
        UserError: OpenSlide knows the file's format, but cannot open it.
    """
    try:
        import openslide
    except ImportError:
        return None
    with decoding(path):
        if openslide.OpenSlide.detect_format(path) is None:
            return None
        return _Slide(path, openslide.OpenSlide(path))


class _Slide(Closing):
    def __init__(self, path: Path, slide: Any) -> None:
        self._path = path
        self._slide = slide
        self.width, self.height = (int(side) for side in slide.dimensions)
        try:
            sizes = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
        except (KeyError, ValueError):
            sizes = []
        self.pixel_size_um = square(*sizes) if sizes else None

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return uint8[h, w, 3] of a window; white where the slide holds nothing."""
        with decoding(self._path):
            region = self._slide.read_region((window.x, window.y), 0, (window.width, window.height))
        white = Image.new("RGB", region.size, (255, 255, 255))
        white.paste(region, mask=region.getchannel("A"))
        return np.asarray(white)

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
