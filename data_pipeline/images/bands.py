"""png, jpg and bmp images too large to be decoded in memory: decoded once, in bands, into a scratch file.

Pillow decodes whole images only. A png's rows depend on the row above alone, so a band of them becomes a png of its
own with that row on top. A bmp is not compressed. libjpeg writes a jpg row by row into an array, here a mapped file.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.plain import decoded_pixels, opened_at_any_size
from searcher.data_pipeline.images.raster import HeadedRaster, ImageHeader
from searcher.data_pipeline.scratch import FileArray, ScratchArray
from searcher.data_pipeline.tiling import Tile

__all__ = ["FileRaster", "decode_into_scratch"]

_BAND_BYTES = 1 << 25
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Bytes of a pixel by colour type: grey, RGB, palette, grey and alpha, RGBA."""

Pixels = NDArray[np.uint8]


class FileRaster(HeadedRaster):
    """An uncompressed image in a file, usually a scratch file, that is read window by window.

    Args:
        pixels: The image's pixels, uint8[H, W, 1 or 3]; closed together with the raster.
        header: Header of the image.
    """

    def __init__(self, pixels: FileArray[np.uint8], header: ImageHeader) -> None:
        super().__init__(header)
        self._pixels = pixels

    def read(self, window: Tile) -> Pixels:
        """Return uint8[h, w, channels] of a window."""
        return self._pixels.read(window)

    def close(self) -> None:
        """Close the file, which frees the disk space of a scratch file."""
        self._pixels.close()


def decode_into_scratch(path: Path, header: ImageHeader, folder: Path) -> FileRaster:
    """Return an image that was decoded into a scratch file, one or three bytes for each pixel.

    Args:
        path: A png, jpg or bmp file.
        header: Header of that file.
        folder: Folder for the scratch file.

    Raises:
        DataError: The file cannot be decoded in bands.
        OSError: The disk is full, or the scratch file cannot be written.
    """
    with ExitStack() as on_failure:
        bands = _bands(path, header)
        shape = (header.height, header.width, header.channels)
        pixels = on_failure.enter_context(ScratchArray(shape, np.uint8, folder))
        if bands is None:
            data = path.read_bytes()
            if data.rfind(_END_OF_IMAGE) < data.rfind(_START_OF_SCAN):  # which libjpeg makes up for with grey
                raise ValueError("the file ends early")
            with pixels.mapped() as mapped:
                out, space = (mapped, "RGB") if header.channels == 3 else (mapped[..., 0], "GRAYSCALE")
                imagecodecs.jpeg8_decode(data, outcolorspace=space, out=out)
        else:
            y = 0
            for band in bands:
                pixels.write(Tile(y, 0, *band.shape[:2]), band)
                y += len(band)
        on_failure.pop_all()
    return FileRaster(pixels, header)


def _bands(path: Path, header: ImageHeader) -> Iterator[Pixels] | None:
    """Return the bands of an image; None for a jpg, which libjpeg reads by itself."""
    with opened_at_any_size(path) as opened:
        kind, mode, layout = opened.format, opened.mode, list(opened.tile)
        is_progressive = bool(opened.info.get("progressive"))
    if header.dtype == np.uint8:
        if kind == "JPEG" and not is_progressive and mode in {"L", "RGB"}:
            return None
        if kind == "PNG":
            return _png_bands(path)
        if kind == "BMP" and len(layout) == 1 and isinstance(layout[0].args, tuple):
            raw_mode, stride, direction = layout[0].args
            samples = {"BGR": 3, "BGRX": 4, "BGRA": 4, "L": 1}.get(raw_mode)
            if layout[0].codec_name == "raw" and samples:
                return _bmp_bands(
                    path, header.height, header.width, samples, layout[0].offset, stride, direction
                )
    what = f"{kind} {header.depth}{' progressive' if is_progressive else ''}, {header.width}x{header.height}"
    raise _too_large(path, what)


def _bmp_bands(
    path: Path, height: int, width: int, samples: int, offset: int, stride: int, direction: int
) -> Iterator[Pixels]:
    rows = max(1, _BAND_BYTES // stride)
    with path.open("rb") as file:
        for y in range(0, height, rows):
            num = min(rows, height - y)
            file.seek(offset + stride * (y if direction > 0 else height - y - num))
            data = np.frombuffer(_exactly(file, num * stride), np.uint8).reshape(num, stride)
            band = data[:: 1 if direction > 0 else -1, : width * samples].reshape(num, width, samples)
            yield band if samples == 1 else band[..., 2::-1]


def _png_bands(path: Path) -> Iterator[Pixels]:
    with path.open("rb") as file:
        if _exactly(file, len(_SIGNATURE)) != _SIGNATURE:
            raise ValueError("no png")
        chunks = _png_chunks(file)
        _, header = next(chunks)
        width, height, depth, colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
        if depth != 8 or is_interlaced or colour not in _PNG_SAMPLES:
            raise _too_large(path, f"png with {depth} bit{' interlaced' if is_interlaced else ''}")
        row_bytes = width * _PNG_SAMPLES[colour]
        num_rows = max(1, _BAND_BYTES // row_bytes)
        palette = b""
        above = bytes(row_bytes)
        for kind, filtered in _png_rows(chunks, row_bytes + 1, num_rows, height):
            if kind == b"PLTE":
                palette = _chunk(b"PLTE", filtered)
                continue
            num = len(filtered) // (row_bytes + 1)
            lines = zlib.compress(b"\0" + above + filtered, 0)
            size = struct.pack(">IIBBBBB", width, num + 1, 8, colour, 0, 0, 0)
            whole = (
                _SIGNATURE + _chunk(b"IHDR", size) + palette + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")
            )
            with Image.open(io.BytesIO(whole)) as band:
                band.load()
                above = band.crop((0, num, width, num + 1)).tobytes()
                yield decoded_pixels(band)[1:]


def _png_rows(
    chunks: Iterator[tuple[bytes, bytes]], row_bytes: int, num_rows: int, height: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the palette as it comes, and bands of filtered rows until all of the image are there."""
    inflate = zlib.decompressobj()
    waiting = bytearray()
    num_left = height
    for kind, data in chunks:
        if kind == b"PLTE":
            yield kind, data
        if kind != b"IDAT":
            continue
        while data and num_left:
            waiting += inflate.decompress(data, max(row_bytes * num_rows, 1))
            data = inflate.unconsumed_tail
            while num_left and len(waiting) >= row_bytes * min(num_rows, num_left):
                band = row_bytes * min(num_rows, num_left)
                yield kind, bytes(waiting[:band])
                del waiting[:band]
                num_left -= band // row_bytes
    if num_left:
        raise ValueError(f"{num_left} rows are missing")


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    while True:
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        data = _exactly(file, length)
        if zlib.crc32(kind + data) != struct.unpack(">I", _exactly(file, 4))[0]:
            raise ValueError(f"a wrong checksum in {kind!r}")
        yield kind, data
        if kind == b"IEND":
            return


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _exactly(file: IO[bytes], num_bytes: int) -> bytes:
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise ValueError("the file ends early")
    return data


def _too_large(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: an image of this size must be one that can be decoded in parts, got {what}; save it as a tiled TIFF"
    )
