"""TIFF files by tifffile: OME-TIFF, BigTIFF, pyramids, tiles or strips, interleaved or planar.

The file must hold one image, in grey or colour, 8 bits a channel; smaller versions of it, and the label and overview of
a slide, are passed over. Tiles are decoded as they are asked for, the last ones kept. What is neither compressed nor
tiled is read where it lies. Strips span the image's width, so they are decoded once, into a scratch file if many.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.prediction.pixel_size import pixel_size_of_tiff
from searcher.prediction.raster import Raster, decoding
from searcher.prediction.scratch import Closing, FileArray, ScratchArray

__all__ = ["open_tiff"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, an exception says, too

_CACHE_BYTES = 1 << 27
_MAX_SEGMENT_BYTES = 1 << 28
"""Largest tile or strip that is decoded in memory."""
_JPEG = {6, 7, 34892, 33007}
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ENOUGH_LIKE = 0.05
"""How much the sides' ratio of a smaller version may differ."""

Pixels = NDArray[np.uint8]


def open_tiff(path: Path, scratch_folder: Path, *, in_memory_px: int) -> Raster:
    """Open a TIFF file.

    Args:
        path: The file.
        scratch_folder: For larger images in compressed strips.
        in_memory_px: Larger ones.

    Raises:
        UserError: The file does not decode, or holds something else than one image of 8 bit.
        OSError: No room for it.
    """
    with decoding(path), ExitStack() as on_failure:
        tiff = on_failure.enter_context(tifffile.TiffFile(path))
        opened = _Tiff(path, tiff, scratch_folder, in_memory_px)
        on_failure.pop_all()
        return opened


class _Plane(Protocol):
    """Some channels of an image."""

    def read(self, window: Tile) -> Pixels:
        """Return uint8[h, w, channels]."""


class _Tiff(Closing):
    def __init__(self, path: Path, tiff: tifffile.TiffFile, folder: Path, in_memory_px: int) -> None:
        self._path = path
        self._tiff = tiff
        pages, key = _single_image(path, tiff)
        self.height, self.width = int(key.imagelength), int(key.imagewidth)
        self.pixel_size_um = pixel_size_of_tiff(tiff, key)
        self._photometric = int(key.photometric)
        self._palette = key.colormap if self._photometric == _PALETTE else None
        self._planes: list[_Plane] = []
        self._open: list[FileArray[np.uint8]] = []  # of the planes, what has a file of its own
        num_planes = int(key.samplesperpixel) if int(key.planarconfig) == 2 else 1
        try:
            for page in pages:
                for number in range(num_planes):
                    self._planes.append(self._plane(page, key, number, num_planes, folder, in_memory_px))
        except BaseException:
            self._close_files()
            raise

    def read(self, window: Tile) -> Pixels:
        """Return uint8[h, w, 3] of a window."""
        with decoding(self._path):
            channels = [plane.read(window) for plane in self._planes]
        pixels = channels[0] if len(channels) == 1 else np.concatenate(channels, axis=2)
        if self._palette is not None:
            return np.ascontiguousarray((self._palette >> 8).astype(np.uint8).T[pixels[..., 0]])
        if self._photometric == _MINISWHITE:
            pixels = 255 - pixels
        return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]

    def close(self) -> None:
        """Close the file."""
        self._close_files()
        self._tiff.close()

    def _close_files(self) -> None:
        for array in self._open:
            array.close()

    def _plane(
        self, page: Any, key: Any, number: int, num_planes: int, folder: Path, in_memory_px: int
    ) -> _Plane:
        num_channels = 1 if num_planes > 1 else int(key.samplesperpixel)
        shape = (self.height, self.width, num_channels)
        if not key.is_tiled and page.is_contiguous and key.is_final:
            file = self._path.open("rb", buffering=0)
            offset = int(page.dataoffsets[0]) + number * self.height * self.width
            array = FileArray(file, offset, shape, np.uint8)
            self._open.append(array)
            return array
        rows, columns = (
            (int(key.tilelength), int(key.tilewidth))
            if key.is_tiled
            else (min(int(key.rowsperstrip), self.height), self.width)
        )
        if rows * columns * num_channels > _MAX_SEGMENT_BYTES:
            raise UserError(
                f"{self._path}: compressed images of this size must be in tiles or short strips, got pieces of "
                f"{columns}x{rows}; save it as a tiled TIFF"
            )
        segments = _Segments(page, key, number, shape, (rows, columns))
        if key.is_tiled:
            return segments
        if self.height * self.width <= in_memory_px:
            segments.cache_bytes = self.height * self.width * num_channels
            return segments
        scratch = ScratchArray(shape, np.uint8, folder)
        self._open.append(scratch)
        for y in range(0, self.height, rows):
            band = Tile(y, 0, min(rows, self.height - y), self.width)
            scratch.write(band, segments.read(band))
        return scratch


class _Segments:
    """Tiles or strips of a page, decoded as they are needed; the last ones are kept.

    Args:
        page: Where they lie.
        key: How they are encoded; the page itself, mostly.
        number: Of the plane, if the page has its channels one after the other.
        shape: Height, width, channels of the plane.
        size: Height and width of a segment.
    """

    def __init__(
        self, page: Any, key: Any, number: int, shape: tuple[int, int, int], size: tuple[int, int]
    ) -> None:
        self._page = page
        self._key = key
        self._shape = shape
        self._size = size
        self._per_row = -(-shape[1] // size[1])
        self._first = number * self._per_row * -(-shape[0] // size[0])
        self._cache: OrderedDict[int, Pixels] = OrderedDict()
        self._num_cached = 0
        self.cache_bytes = _CACHE_BYTES
        jpeg = {"jpegtables": key.jpegtables, "jpegheader": key.jpegheader}
        self._options = jpeg if int(key.compression) in _JPEG else {}

    def read(self, window: Tile) -> Pixels:
        """Return uint8[h, w, channels] of a window."""
        pixels: Pixels = np.empty((window.height, window.width, self._shape[2]), np.uint8)
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

    def _segment(self, index: int) -> Pixels:
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

    def _decode(self, index: int) -> Pixels:
        num_bytes = int(self._page.databytecounts[index])
        data = None
        if num_bytes:
            file = self._page.parent.filehandle
            file.seek(int(self._page.dataoffsets[index]))
            data = file.read(num_bytes)
            if len(data) < num_bytes:
                raise ValueError("the file ends early")
        decoded = self._key.decode(data, index, **self._options)[0]
        if decoded is None:  # nothing was scanned there: white, as glass is
            return np.full((*self._size, self._shape[2]), 255, np.uint8)
        pixels: Pixels = decoded[0]
        return pixels


def _single_image(path: Path, tiff: tifffile.TiffFile) -> tuple[Sequence[Any], Any]:
    """Return the pages that hold the image, one or one for each channel, and the one that says how it is encoded.

    Raises:
        UserError: The file holds something else.
    """
    if not tiff.series:
        raise ValueError("no image in it")
    series = tiff.series[0]
    is_of_known_structure = tiff.is_ome or tiff.is_svs or tiff.is_ndpi or tiff.is_scn or tiff.is_bif
    if not is_of_known_structure and not all(_is_smaller(each, series) for each in tiff.series[1:]):
        raise UserError(
            f"{path}: a file must hold one image, got {len(tiff.series)}; save them as single files"
        )
    axes = "".join(
        axis for axis, length in zip(series.axes, series.shape, strict=True) if length > 1 or axis in "YX"
    )
    channels = 1 if axes == "YX" else next((series.shape[series.axes.index(a)] for a in "SC" if a in axes), 0)
    if axes not in {"YX", "YXS", "SYX", "CYX"} or (axes == "CYX" and channels != 3):
        sizes = " x ".join(str(length) for length in series.shape)
        raise UserError(
            f"{path}: a file must hold one image in grey or colour, got {sizes} (axes {series.axes}); "
            "save one plane as 8 bit RGB"
        )
    key = series.keyframe
    what = f"{key.dtype} {tifffile.PHOTOMETRIC(key.photometric).name}, {channels} channels"
    is_colour = int(key.photometric) in {_RGB, _YCBCR} and channels in {3, 4}
    is_grey = int(key.photometric) in {_MINISBLACK, _MINISWHITE, _PALETTE} and channels == 1
    if key.dtype != np.uint8 or key.bitspersample != 8 or not (is_colour or is_grey or axes == "CYX"):
        raise UserError(f"{path}: an image must be 8 bit colour or grey, got {what}; convert it to 8 bit RGB")
    pages = [page for page in series.pages if page is not None]
    num_needed = 3 if axes == "CYX" else 1
    with suppress(TypeError, IndexError):
        pages = pages[:num_needed]
    if len(pages) < num_needed:
        raise UserError(f"{path}: all channels must be there, got {len(pages)} of 3; export it again")
    return pages, key


def _is_smaller(other: Any, series: Any) -> bool:
    """Return whether a series is a smaller version of another, or says so."""
    if getattr(other.keyframe, "is_reduced", False):
        return True
    sides = [(int(each.keyframe.imagelength), int(each.keyframe.imagewidth)) for each in (other, series)]
    (height, width), (full_height, full_width) = sides
    ratio = (height / full_height) / (width / full_width)
    return height < full_height and width < full_width and abs(ratio - 1) < _ENOUGH_LIKE
