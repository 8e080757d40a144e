"""One way from an image file to its header and its pixels, for all that reads images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.bands import decode_into_scratch
from searcher.data_pipeline.images.names import IMAGE_SUFFIXES, SLIDES, SLIDES_TIFFFILE_READS, what_is
from searcher.data_pipeline.images.pixel_kind import as_data, kind_of
from searcher.data_pipeline.images.plain import plain_header, read_plain
from searcher.data_pipeline.images.raster import ArrayRaster, ImageHeader, Pixels, Raster, decoding
from searcher.data_pipeline.tiling import Tile
from searcher.extras import need

__all__ = [
    "as_rgb",
    "file_kind",
    "open_raster",
    "read_data_image",
    "read_header",
    "read_image",
    "read_rgb",
    "require_rgb",
]

_IN_MEMORY_PX = 1 << 26
"""Larger images are decoded in bands when they are read window by window."""
_MAX_WHOLE_PX = 178_956_970
"""Largest image that is read as a whole: Pillow's limit."""
_SIGNATURES = {
    "plain": (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "npy": (b"\x93NUMPY",),
    "npz": (b"PK\x03\x04",),
}


def read_header(path: Path) -> ImageHeader:
    """Return size, channels, type and pixel size of an image file, without decoding its pixels.

    Raises:
        DataError: The file cannot be read, or its format is not supported; see the package's table.
    """
    with decoding(path):
        if _is_plain(path):
            return plain_header(path)
        with _open_other(path, None) as raster:
            return raster.header


def read_image(path: Path) -> Pixels:
    """Return an image's pixels, [H, W, channels], with the type that the file has.

    Grey has one channel and colour has three: palettes become colours, transparency is dropped. Other images have all
    their channels.

    Raises:
        DataError: The file cannot be decoded, its format is not supported, or it is too large to be read whole.
    """
    with decoding(path):
        if _is_plain(path):
            header = plain_header(path)
            _require_whole(path, header)
            return read_plain(path, header)
        with _open_other(path, None) as raster:
            _require_whole(path, raster.header)
            return raster.read(Tile(0, 0, raster.height, raster.width))


def open_raster(path: Path, scratch_folder: Path) -> Raster:
    """Return an image of any size, whose pixels are read later, window by window.

    Args:
        path: The file.
        scratch_folder: Folder with room for a large image that can only be decoded whole.

    Raises:
        DataError: The file cannot be decoded, or its format is not supported.
        OSError: The disk is full.
    """
    with decoding(path):
        if not _is_plain(path):
            return _open_other(path, scratch_folder)
        header = plain_header(path)
        if header.height * header.width <= _IN_MEMORY_PX:
            return ArrayRaster(read_plain(path, header), header=header)
        return decode_into_scratch(path, header, scratch_folder)


def read_data_image(path: Path) -> Pixels:
    """Return an image as data sets hold it, uint8 or uint16[H, W, C]: 8 bit grey becomes three equal channels.

    Raises:
        DataError: The file cannot be decoded, its format is not supported, it is 16 bit colour, or it is too large.
    """
    kind_of(path, read_header(path))
    return as_data(read_image(path))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return an 8 bit image in grey or colour as uint8[H, W, 3]; grey becomes three equal channels.

    Raises:
        DataError: The file cannot be decoded, or the image is of another kind.
    """
    require_rgb(path, read_header(path))
    return as_rgb(read_image(path))


def as_rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Return 8 bit pixels in grey or RGB, uint8[h, w, 1 or 3], as RGB uint8[h, w, 3]."""
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.shape[2] in (1, 3), pixels.shape
    rgb: NDArray[np.uint8] = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return rgb


def require_rgb(path: Path, header: ImageHeader) -> None:
    """Raise an error unless an image is 8 bit grey or RGB.

    Raises:
        DataError: The image is of another kind.
    """
    kind_of(path, header)
    if header.dtype != np.uint8 or header.colour == "channels":
        raise DataError(
            f"{path}: an image must be 8 bit colour or grey, got {header.depth}; convert it to 8 bit RGB"
        )


def file_kind(path: Path) -> str:
    """Return the kind of a file by its first bytes: `plain`, `tiff`, `npy`, `npz`, or empty; `slide` by its name.

    Raises:
        OSError: The file is missing, or cannot be read.
        DataError: The path is a folder, a pipe or another thing that is no file.
        ValueError: The file has 0 bytes.
    """
    if not path.is_file():  # opening a pipe would wait for somebody to write into it
        if path.exists() or path.is_symlink():
            raise DataError(f"{path}: must be a file, got {what_is(path)}; give a file")
        raise FileNotFoundError(path)
    if path.suffix.lower() in SLIDES:
        return "slide"
    with path.open("rb") as file:
        head = file.read(8)
    if not head and path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError("an empty file")
    return next((kind for kind, starts in _SIGNATURES.items() if head.startswith(starts)), "")


def _is_plain(path: Path) -> bool:
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(each.removeprefix(".") for each in IMAGE_SUFFIXES))
        raise DataError(f"{path}: must be an image with one of the endings {known}; convert it")
    kind = file_kind(path)
    if kind not in ("plain", "tiff", "slide"):
        raise ValueError("neither png, jpg, bmp nor tif by its first bytes")
    return kind == "plain"


def _open_other(path: Path, scratch_folder: Path | None) -> Raster:
    """Open a slide or a TIFF file; what is too large for it needs a scratch folder."""
    suffix = path.suffix.lower()
    if suffix in SLIDES:
        from searcher.data_pipeline.images.slides import open_slide

        slide = open_slide(path)
        if slide is not None:
            return slide
        if suffix not in SLIDES_TIFFFILE_READS:
            need("slides", str(path), error=DataError)
            raise DataError(
                f"{path}: must be a slide that OpenSlide opens, got a file that it does not know; check that all "
                "files of the slide are there"
            )
    from searcher.data_pipeline.images.tiff import open_tiff  # tifffile takes a while to import

    return open_tiff(path, scratch_folder, in_memory_px=_IN_MEMORY_PX)


def _require_whole(path: Path, header: ImageHeader) -> None:
    if header.height * header.width > _MAX_WHOLE_PX:
        raise DataError(
            f"{path}: an image must have at most {_MAX_WHOLE_PX:,} pixels to be read as a whole, got "
            f"{header.width}x{header.height}; cut it into tiles"
        )
