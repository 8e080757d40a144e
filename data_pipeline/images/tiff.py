"""TIFF files by tifffile: OME-TIFF, BigTIFF, pyramids, tiles or strips, interleaved or planar.

Pixels are used as stored; an orientation tag is ignored. Tiles are decoded as they are requested, the last
ones kept. What is neither compressed nor tiled is read where it lies. Strips span the image's width, so they are
decoded once, into a scratch file if many.
"""

import logging
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.raster import HeadedRaster, Pixels, Raster, decoding
from searcher.data_pipeline.images.tiff_checks import jpeg_size
from searcher.data_pipeline.images.tiff_layout import JPEG, TiffImage, find_tiff_image, opened_tiff
from searcher.data_pipeline.scratch import FileArray, ScratchArray
from searcher.data_pipeline.tiling import Tile

__all__ = ["open_tiff"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, an exception says, too

_CACHE_BYTES = 1 << 27
_MAX_SEGMENT_BYTES = 1 << 28
"""Largest tile or strip that is decoded in memory."""


def open_tiff(path: Path, scratch_folder: Path | None, *, in_memory_px: int) -> Raster:
    """Return the image in a TIFF file as raster.

    Args:
        path: The file.
        scratch_folder: Folder for decoding images in compressed strips above `in_memory_px`; None if the image is to be
            read once, whole.
        in_memory_px: Largest image that is decoded in memory, in pixels.

    Raises:
        DataError: The file cannot be decoded, or does not hold exactly one supported image.
        OSError: The disk is full.
    """
    with ExitStack() as on_failure:
        tiff = on_failure.enter_context(opened_tiff(path))
        raster = _Tiff(path, tiff, scratch_folder, in_memory_px)
        on_failure.pop_all()
        return raster


class _Plane(Protocol):
    """Some channels of an image."""

    def read(self, window: Tile) -> NDArray[Any]:
        """Return [h, w, channels] as stored."""


class _Tiff(HeadedRaster):
    def __init__(self, path: Path, tiff: tifffile.TiffFile, folder: Path | None, in_memory_px: int) -> None:
        self._path = path
        self._tiff = tiff
        image = find_tiff_image(path, tiff)
        super().__init__(image.header)
        self._image = image
        self._dtype = np.dtype(image.key.dtype)
        self._planes: list[_Plane] = []
        self._open: list[FileArray[Any]] = []  # of the planes, what has a file of its own
        num_planes = int(image.key.samplesperpixel) if int(image.key.planarconfig) == 2 else 1
        try:
            for page in image.pages:
                for number in range(num_planes):
                    self._planes.append(self._plane(page, number, num_planes, folder, in_memory_px))
        except BaseException:
            self._close_files()
            raise

    def read(self, window: Tile) -> Pixels:
        """Return [h, w, channels] of a window."""
        with decoding(self._path):
            stored = [plane.read(window) for plane in self._planes]
        return _pixels(self._image, stored[0] if len(stored) == 1 else np.concatenate(stored, axis=2))

    def close(self) -> None:
        """Close the file."""
        self._close_files()
        self._tiff.close()

    def _close_files(self) -> None:
        for array in self._open:
            array.close()

    def _plane(
        self, page: Any, number: int, num_planes: int, folder: Path | None, in_memory_px: int
    ) -> _Plane:
        key = self._image.key
        num_channels = 1 if num_planes > 1 else int(key.samplesperpixel)
        shape = (self.height, self.width, num_channels)
        if not key.is_tiled and page.is_contiguous and key.is_final:
            file = self._path.open("rb", buffering=0)
            offset = int(page.dataoffsets[0]) + number * self.height * self.width * self._dtype.itemsize
            stored = self._dtype.newbyteorder(self._tiff.byteorder)
            array: FileArray[Any] = FileArray(file, offset, shape, stored)
            self._open.append(array)
            return array
        rows, columns = (
            (int(key.tilelength), int(key.tilewidth))
            if key.is_tiled
            else (min(int(key.rowsperstrip), self.height), self.width)
        )
        if rows * columns * num_channels * self._dtype.itemsize > _MAX_SEGMENT_BYTES:
            raise DataError(
                f"{self._path}: compressed images of this size must be in tiles or short strips, got pieces of "
                f"{columns}x{rows}; save it as a tiled TIFF"
            )
        segments = _Segments(page, self._image, number, shape, (rows, columns))
        if key.is_tiled or folder is None:
            return segments
        if self.height * self.width <= in_memory_px:
            segments.cache_bytes = self.height * self.width * num_channels * self._dtype.itemsize
            return segments
        scratch: ScratchArray[Any] = ScratchArray(shape, self._dtype, folder)
        self._open.append(scratch)
        for y in range(0, self.height, rows):
            band = Tile(y, 0, min(rows, self.height - y), self.width)
            scratch.write(band, segments.read(band))
        return scratch


class _Segments:
    """Tiles or strips of a page, decoded as they are needed; the last ones are kept.

    Args:
        page: Where they lie.
        image: What says how they are encoded.
        number: Of the plane, if the page has its channels one after the other.
        shape: Height, width, channels of the plane.
        size: Height and width of a segment.
    """

    def __init__(
        self, page: Any, image: TiffImage, number: int, shape: tuple[int, int, int], size: tuple[int, int]
    ) -> None:
        key = image.key
        self._page = page
        self._key = key
        self._dtype = np.dtype(key.dtype)
        is_glass = image.header.colour != "channels" and self._dtype == np.uint8
        self._empty = 255 if is_glass and image.meaning != "inverted" else 0
        self._shape = shape
        self._size = size
        self._per_row = -(-shape[1] // size[1])
        self._first = number * self._per_row * -(-shape[0] // size[0])
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._num_cached = 0
        self.cache_bytes = _CACHE_BYTES
        jpeg = {"jpegtables": key.jpegtables, "jpegheader": key.jpegheader}
        self._is_jpeg = int(key.compression) in JPEG
        self._options = jpeg if self._is_jpeg else {}

    def read(self, window: Tile) -> NDArray[Any]:
        """Return [h, w, channels] of a window, as stored."""
        pixels: NDArray[Any] = np.empty((window.height, window.width, self._shape[2]), self._dtype)
        (rows, columns), (y, x) = self._size, window[:2]
        for row in range(y // rows, -(-(y + window.height) // rows)):
            for column in range(x // columns, -(-(x + window.width) // columns)):
                top, left = max(y, row * rows), max(x, column * columns)
                segment = self._segment(row * self._per_row + column)
                part = segment[top - row * rows :, left - column * columns :]
                there = pixels[top - y :, left - x :]
                height = min((row + 1) * rows - top, len(there))
                width = min((column + 1) * columns - left, there.shape[1])
                there[:height, :width] = part[:height, :width]  # a segment that is cut off does not fit
        return pixels

    def _segment(self, index: int) -> NDArray[Any]:
        found = self._cache.get(index)
        if found is not None:
            self._cache.move_to_end(index)
            return found
        decoded = self._decode(self._first + index)
        self._cache[index] = decoded
        self._num_cached += decoded.nbytes
        while self._num_cached > self.cache_bytes and len(self._cache) > 1:
            self._num_cached -= self._cache.popitem(last=False)[1].nbytes
        return decoded

    def _decode(self, index: int) -> NDArray[Any]:
        num_bytes = int(self._page.databytecounts[index])
        data = None
        if num_bytes:
            file = self._page.parent.filehandle
            file.seek(int(self._page.dataoffsets[index]))
            data = file.read(num_bytes)
            if len(data) < num_bytes:
                raise ValueError("the file ends early")
            if self._is_jpeg and (size := jpeg_size(data)) and max(size) > 2 * max(self._size):
                raise ValueError(
                    f"a tile of {size[1]}x{size[0]} px where {self._size[1]}x{self._size[0]} belong"
                )
        decoded = self._key.decode(data, index, **self._options)[0]
        if decoded is None:  # nothing was scanned there: white, as glass is, or dark
            return np.full((*self._size, self._shape[2]), self._empty, self._dtype)
        pixels: NDArray[Any] = decoded[0]
        return pixels


def _pixels(image: TiffImage, stored: NDArray[Any]) -> Pixels:
    """Return an image's pixels [h, w, channels] of stored values [h, w, samples]."""
    header, bits = image.header, int(image.key.bitspersample)
    if image.meaning == "palette":
        colours = np.asarray(image.key.colormap)
        if (
            colours.max() >= 256
        ):  # some programs write 8 bit colours where 16 bit ones belong, as libtiff knows, too
            colours = colours >> 8
        return np.ascontiguousarray(colours.astype(np.uint8).T[stored[..., 0]])
    pixels = np.ascontiguousarray(stored[..., : header.channels], header.dtype)
    top = (1 << bits) - 1
    if image.meaning == "inverted":
        pixels = top - pixels
    if bits < 8:
        pixels = (pixels.astype(np.uint16) * 255 // top).astype(np.uint8)
    return pixels
