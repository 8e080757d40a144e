"""Image files of any size as the models see them: uint8 with the channels that they were trained on.

`searcher.data_pipeline.images` reads the files and says which it takes. `searcher.data_pipeline.normalisation` says
how values become 0..255. Percentiles are those of the whole image, however large: one pass over it counts its values
block by block.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import (
    ImageHeader,
    Raster,
    images_in,
    kind_of,
    open_raster,
    read_header,
    read_image,
    require_rgb,
)
from searcher.data_pipeline.normalisation import Histogram, Levels, Normalisation
from searcher.data_pipeline.scratch import Closing
from searcher.data_pipeline.tiling import Tile
from searcher.inference.image_kind import ImageKind
from searcher.prediction.components import blocks_of

__all__ = ["Normalised", "images_in", "is_dark", "open_image", "read_as_seen", "require_kind"]

_BLOCK_PX = 2048
_SAMPLE_PX = 512
_NUM_SAMPLES = 4
"""Windows along each axis that tell whether an image is dark."""


def open_image(path: Path, scratch_folder: Path, kind: ImageKind | None = None) -> Raster:
    """Return an image file as raster with its own values; pixels are read later, window by window.

    Args:
        path: The file.
        scratch_folder: Folder with room for a large image that can only be decoded whole.
        kind: The kind of images that the models expect; None for 8 bit colour.

    Raises:
        DataError: The file cannot be decoded, or is not of the expected kind.
        OSError: The disk is full.
    """
    raster = open_raster(path, scratch_folder)
    try:
        require_kind(path, raster.header, kind or ImageKind())
    except BaseException:
        raster.__exit__(None, None, None)
        raise
    return raster


def require_kind(path: Path, header: ImageHeader, kind: ImageKind) -> None:
    """Raise an error if an image is not of the kind that networks expect.

    Args:
        path: The image file, for messages.
        header: Header of the image.
        kind: The kind of images that the networks expect.

    Raises:
        DataError: The image has other channels or another depth.
    """
    if kind.is_colour:
        require_rgb(path, header)
        return
    kind_of(path, header)  # refuses 16 bit colour
    if not kind.takes(header.channels):
        other = "channel" if kind.channels == 1 else "channels"
        raise DataError(
            f"{path}: must have {kind.channels} {other}, as the images that the networks were trained on, got "
            f"{header.depth}; save those channels alone, or take other networks"
        )
    if header.dtype != np.uint8 and kind.normalisation.kind == "fixed" and kind.dtype == "uint8":
        raise DataError(
            f"{path}: must have 8 bit, as the images that the networks were trained on, got {header.depth}; convert it "
            "as those were, or see --normalisation percentile"
        )


def read_as_seen(path: Path, kind: ImageKind) -> NDArray[np.uint8]:
    """Return a whole image as input for the networks, normalised: uint8[H, W, C].

    Raises:
        DataError: The file cannot be decoded, is not of the expected kind, or is too large to be read whole.
    """
    require_kind(path, read_header(path), kind)
    return kind.normalised(read_image(path))


class Normalised(Closing):
    """A raster that shows another one normalised for the models, uint8[h, w, C]; grey becomes three channels if needed.

    Args:
        source: The other raster; it stays open. For percentiles it is read once as a whole.
        kind: The kind of images that the models expect.
    """

    def __init__(self, source: Raster, kind: ImageKind) -> None:
        self._source = source
        self._kind = kind
        self._levels = _levels_of(source, kind.normalisation)
        self.header = source.header
        self.height, self.width = source.height, source.width
        self.pixel_size_um = source.pixel_size_um

    @property
    def is_dark(self) -> bool:
        """Whether the image is dark although the models use colours unchanged; it may have been brightened."""
        if not self._kind.is_colour:
            return False
        if self._kind.normalisation.brightens_dark:  # the whole image was looked at
            return not self._levels.changes_nothing
        return is_dark(self._source)

    def read(self, window: Tile) -> NDArray[np.uint8]:
        """Return the pixels of a window, uint8[h, w, C]."""
        return self._kind.fitted(self._levels.apply(self._source.read(window)))


def _levels_of(raster: Raster, normalisation: Normalisation) -> Levels:
    histogram = Histogram(raster.header.channels, raster.header.dtype)
    if normalisation.depends_on_image:
        for block in blocks_of(raster.height, raster.width, _BLOCK_PX):
            histogram.add(raster.read(block))
    return histogram.levels(normalisation)


def is_dark(raster: Raster) -> bool:
    """Return whether an image is dark, see `Histogram.is_dark`; False if it is not 8 bit.

    Large images are sampled in windows.
    """
    histogram = Histogram(raster.header.channels, raster.header.dtype)
    for window in _spread(raster.height, raster.width):
        histogram.add(raster.read(window))
    return histogram.is_dark()


def _spread(height: int, width: int) -> list[Tile]:
    if max(height, width) <= _NUM_SAMPLES * _SAMPLE_PX:
        return [Tile(0, 0, height, width)]
    rows, columns = (
        sorted({round(at) for at in np.linspace(0, max(0, size - _SAMPLE_PX), _NUM_SAMPLES)})
        for size in (height, width)
    )
    return [
        Tile(y, x, min(_SAMPLE_PX, height - y), min(_SAMPLE_PX, width - x)) for y in rows for x in columns
    ]
