"""png, jpg and bmp: their headers, and their pixels decoded whole.

Pillow decodes 8 bits a channel. Of 16 bit colour it keeps the high byte only, so those are decoded by libpng through
imagecodecs. An orientation in EXIF is not followed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.raster import Colour, ImageHeader, Pixels

__all__ = [
    "check_ratio",
    "decoded_pixels",
    "opened_at_any_size",
    "plain_header",
    "png_bit_depth",
    "read_plain",
    "require_one_frame",
]

_ORIENTATION = 274
_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I"}
_MODES: dict[str, tuple[int, Colour]] = {
    "L": (1, "grey"), "LA": (1, "grey"), "RGB": (3, "rgb"), "RGBA": (3, "rgb"), "P": (3, "rgb"), "PA": (3, "rgb"),
}  # fmt: skip
_WHAT = {"1": "1 bit", "CMYK": "CMYK", "YCbCr": "YCbCr", "F": "floating point", "LAB": "CIELAB"}
_PNG_COLOURS: dict[int, tuple[int, Colour]] = {0: (1, "grey"), 2: (3, "rgb"), 4: (1, "grey"), 6: (3, "rgb")}
_PNG_HEADER_BYTES = 26
_MAX_RATIO = {"PNG": 1100, "BMP": 70_000}
"""Bytes that one byte of a file can stand for at most: deflate's limit of 1032, and what runs of a bmp may reach."""
_MAX_RATIO_OTHER = 20_000


@contextmanager
def opened_at_any_size(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Yield an image opened by Pillow, to read its header: without Pillow's limit on the number of pixels."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as opened:
            yield opened
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def plain_header(path: Path) -> ImageHeader:
    """Return the header of a png, jpg or bmp file.

    Raises:
        DataError: The file holds no 8 or 16 bit image in grey or colour, or several images.
        ValueError: The file is too short for the size in its header.
    """
    depth = png_bit_depth(path)
    with opened_at_any_size(path) as opened:
        require_one_frame(path, opened)
        check_ratio(path, opened)
        dtype: np.dtype[Any] = np.dtype(np.uint8)
        if depth is not None and depth[0] == 16:
            dtype = np.dtype(np.uint16)
            channels, colour = _PNG_COLOURS[depth[1]]
        elif opened.mode in _MODES:
            channels, colour = _MODES[opened.mode]
        else:
            raise DataError(
                f"{path}: an image must be 8 or 16 bit, grey or colour, got "
                f"{_WHAT.get(opened.mode, opened.mode)}; convert it to 8 bit RGB"
            )
        return ImageHeader(
            height=opened.height,
            width=opened.width,
            channels=channels,
            dtype=dtype,
            colour=colour,
            orientation=_orientation(opened),
        )


def read_plain(path: Path, header: ImageHeader) -> Pixels:
    """Return the pixels of a png, jpg or bmp file, [H, W, C], uint8 or uint16.

    Args:
        path: The file.
        header: The result of `plain_header` for the same file.

    Raises:
        ValueError: The file changed since its header was read.
    """
    if header.dtype == np.uint16:
        import imagecodecs

        decoded = imagecodecs.png_decode(path.read_bytes())
        pixels: Pixels = np.atleast_3d(decoded)[..., : header.channels].astype(np.uint16, copy=False)
    else:
        with opened_at_any_size(path) as opened:
            pixels = decoded_pixels(opened)
    if pixels.shape != (header.height, header.width, header.channels):
        raise ValueError("a file that changed while it was read")
    return np.ascontiguousarray(pixels)


def decoded_pixels(opened: Image.Image) -> NDArray[np.uint8]:
    """Return an opened image's 8 bit pixels, [H, W, 1 or 3], without transparency; palettes become colours."""
    if opened.mode == "LA":
        opened = opened.getchannel("L")
    elif opened.mode in ("P", "PA"):
        opened = opened.convert("RGBA")  # a palette's transparency in bytes makes Pillow warn otherwise
    pixels: NDArray[np.uint8] = np.atleast_3d(np.asarray(opened))[..., :3]
    return pixels


def png_bit_depth(path: Path) -> tuple[int, int] | None:
    """Return the bits per sample and the colour type of a png file; None if the file is no png."""
    with path.open("rb") as file:
        head = file.read(_PNG_HEADER_BYTES)
    is_png = head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR" and len(head) == _PNG_HEADER_BYTES
    return (head[24], head[25]) if is_png else None


def require_one_frame(path: Path, opened: Image.Image) -> None:
    """Raise an error if a file is an animation or has several pages.

    Args:
        path: The file, for messages.
        opened: The opened file.

    Raises:
        DataError: The file holds more than one image.
    """
    frames = getattr(opened, "n_frames", 1)
    if frames != 1:
        raise DataError(f"{path}: a file must hold one image, got {frames} pages; save them as single files")


def check_ratio(path: Path, opened: Image.Image) -> None:
    """Raise an error if a file is too short for the size in its header, before memory is allocated for it.

    Raises:
        ValueError: The header states more pixels than the file's bytes can encode.
    """
    num_px, num_bytes = opened.width * opened.height, path.stat().st_size
    per_px = len(opened.getbands()) if opened.mode not in ("1", "P", "L") else 1 / 8
    if num_px * per_px > num_bytes * _MAX_RATIO.get(opened.format or "", _MAX_RATIO_OTHER):
        raise ValueError(f"a header of {opened.width}x{opened.height} px, and a file of {num_bytes} bytes")


def _orientation(opened: ImageFile.ImageFile) -> int:
    """Return the orientation that EXIF gives; 1 where it gives none, or cannot be read."""
    if "exif" not in opened.info:
        return 1
    exif = Image.Exif()
    try:
        exif.load(opened.info["exif"])
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # it is of no use here: nothing depends on it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
