"""Image files of any size as rasters of 8 bit RGB, as the models see them.

`data_pipeline.images` reads them, and says which files it takes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.images import Raster, as_rgb, images_in, open_raster, require_rgb
from data_pipeline.scratch import Closing
from data_pipeline.tiling import Tile

__all__ = ["images_in", "open_image"]


def open_image(path: Path, scratch_folder: Path) -> Raster:
    """Open an image as a raster of uint8[h, w, 3]; its pixels are read later, window by window.

    Args:
        path: The file.
        scratch_folder: Where there is room for a large image that can only be decoded as a whole.

    Raises:
        DataError: The file does not decode, or is no 8 bit image in grey or colour.
        OSError: No room for it.
    """
    raster = open_raster(path, scratch_folder)
    try:
        require_rgb(path, raster.header)
    except BaseException:
        raster.__exit__(None, None, None)
        raise
    return raster if raster.header.channels == 3 else _Rgb(raster)


class _Rgb(Closing):
    """Another raster, which is grey, in three equal channels."""

    def __init__(self, source: Raster) -> None:
        self._source = source
        self.header = source.header
        self.height, self.width = source.height, source.width
        self.pixel_size_um = source.pixel_size_um

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return uint8[h, w, 3] of a window."""
        return as_rgb(self._source.read(window))

    def close(self) -> None:
        """Close the file."""
        self._source.__exit__(None, None, None)
