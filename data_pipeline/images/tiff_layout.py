"""Which pages of a TIFF file hold its image, and what their stored values mean.

The file must hold one image: smaller versions of it, and the label and overview of a slide, are passed over.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.pixel_size import pixel_size_of_tiff
from searcher.data_pipeline.images.raster import Colour, ImageHeader
from searcher.data_pipeline.images.tiff_checks import check_ome, check_pages, check_segments

__all__ = ["JPEG", "TiffImage", "find_tiff_image", "opened_tiff", "single_image"]

JPEG = {6, 7, 34892, 33007}
"""Compressions whose decoder turns YCbCr into RGB."""
_APERIO_YCBCR = 33003
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = {1, 2}
"""Extra samples that are transparency, associated or not."""
_ENOUGH_LIKE = 0.05
"""How much the sides' ratio of a smaller version may differ."""
_STACKS = {"Z": "a stack of {n} planes", "T": "a series of {n} times", "I": "{n} pages", "Q": "{n} pages"}

Meaning = Literal["stored", "inverted", "palette", "scaled"]


@dataclass(frozen=True, kw_only=True)
class TiffImage:
    """The image of a TIFF file: its header, pages, and the meaning of its stored values."""

    header: ImageHeader
    pages: Sequence[Any]
    """The pages that hold it: one, or one for each channel."""
    key: Any
    """The page that says how they are encoded."""
    meaning: Meaning
    """What stored values become: nothing else, a negative, a palette's colours, or 8 bit from fewer."""


def opened_tiff(path: Path) -> tifffile.TiffFile:
    """Return an open TIFF file, after checking the chain of its pages.

    Raises:
        ValueError: The chain is damaged; see `check_pages`.
    """
    check_pages(path)
    return tifffile.TiffFile(path)


def find_tiff_image(path: Path, tiff: tifffile.TiffFile) -> TiffImage:
    """Return the image of a TIFF file, without decoding its pixels.

    Raises:
        DataError: The file does not hold exactly one supported image.
    """
    pages, key, axes, samples = single_image(path, tiff)
    channels, colour, meaning = _interpreted(path, key, axes, samples)
    dtype = np.dtype(np.uint8 if meaning == "palette" or int(key.bitspersample) <= 8 else np.uint16)
    num_needed = samples if axes == "CYX" else 1
    with suppress(TypeError, IndexError):
        pages = pages[:num_needed]
    if len(pages) < num_needed:
        raise DataError(
            f"{path}: all channels must be there, got {len(pages)} of {num_needed}; export it again"
        )
    orientation = key.tags.get(274)
    header = ImageHeader(
        height=int(key.imagelength),
        width=int(key.imagewidth),
        channels=channels,
        dtype=dtype,
        colour=colour,
        pixel_size_um=pixel_size_of_tiff(tiff, key),
        orientation=int(orientation.value)
        if orientation is not None and orientation.value in range(1, 9)
        else 1,
    )
    return TiffImage(header=header, pages=pages, key=key, meaning=meaning)


def single_image(path: Path, tiff: tifffile.TiffFile) -> tuple[list[Any], Any, str, int]:
    """Return four facts about a TIFF file's only image: its pages, its encoding page, its axes and its samples.

    The encoding page is the page that states how pixels are encoded. Axes are letters such as `YXS`; samples is the
    number of values of a pixel.

    Raises:
        DataError: The file holds several images, or a stack of them.
    """
    check_ome(path, tiff)
    if not tiff.series:
        raise ValueError("no image in it")
    series = tiff.series[0]
    others = [each for each in tiff.series[1:] if not _may_be_beside(tiff, each, series)]
    if others:
        raise DataError(
            f"{path}: a file must hold one image, got {1 + len(others)}; save them as single files"
        )
    axes = "".join(
        axis for axis, length in zip(series.axes, series.shape, strict=True) if length > 1 or axis in "YX"
    )
    samples = 1 if axes == "YX" else next((series.shape[series.axes.index(a)] for a in "SC" if a in axes), 0)
    if axes not in {"YX", "YXS", "SYX", "CYX"}:
        raise DataError(_stacked(path, series, axes))
    pages, key = [page for page in series.pages if page is not None], series.keyframe
    if not pages:
        raise ValueError("no image in it")
    for page in pages:
        check_segments(path, page, key, int(key.samplesperpixel) if int(key.planarconfig) == 2 else 1)
    return pages, key, axes, int(samples)


def _stacked(path: Path, series: Any, axes: str) -> str:
    sizes = f"{' x '.join(str(length) for length in series.shape)}, axes {series.axes}"
    stack = next((axis for axis in axes if axis in _STACKS), None)
    what = _STACKS[stack].format(n=series.shape[series.axes.index(stack)]) if stack else "more axes"
    return (
        f"{path}: a file must hold one image, got {what} ({sizes}); save each image, or a projection of them, as a "
        "file of its own, and the channels of one image with axes CYX"
    )


def _interpreted(path: Path, key: Any, axes: str, samples: int) -> tuple[int, Colour, Meaning]:
    """Return channels, their colours, and what stored values mean.

    Raises:
        DataError: Pixels of this kind are not taken.
    """
    photometric, bits = int(key.photometric), int(key.bitspersample)
    name = getattr(key.photometric, "name", f"photometric {photometric}")
    is_unsigned = key.dtype is not None and key.dtype.kind == "u" and key.dtype.itemsize <= 2
    if not is_unsigned or (bits < 2 and photometric != _PALETTE):
        got = "1 bit" if bits == 1 else f"{key.dtype} {name}, {samples} channels"
        raise DataError(
            f"{path}: an image must be 8 or 16 bit, grey, colour or channels, got {got}; convert it to 8 bit RGB"
        )
    extra = 0 if axes == "CYX" else sum(int(each) in _ALPHA for each in key.extrasamples)
    channels = samples - extra
    if photometric in (_MINISBLACK, _MINISWHITE) or (photometric == _PALETTE and axes == "CYX"):
        colour: Colour = "grey" if channels == 1 else "rgb" if channels == 3 and bits == 8 else "channels"
        meaning: Meaning = "inverted" if photometric == _MINISWHITE else "scaled" if bits < 8 else "stored"
        return channels, colour, meaning
    if photometric == _PALETTE and samples == 1 and bits <= 8 and key.colormap is not None:
        return 3, "rgb", "palette"
    if photometric == _RGB and axes != "CYX" and samples >= 3 and int(key.compression) != _APERIO_YCBCR:
        meaning = "scaled" if bits < 8 else "stored"
        return (3, "rgb", meaning) if samples <= 4 else (channels, "channels", meaning)
    if photometric == _YCBCR and samples == 3 and int(key.compression) in JPEG:
        return 3, "rgb", "stored"
    compression = getattr(key.compression, "name", key.compression)
    raise DataError(
        f"{path}: an image must be 8 or 16 bit, grey, colour or channels, got {key.dtype} {name}, "
        f"{samples} channels, {compression}; convert it to RGB"
    )


def _may_be_beside(tiff: tifffile.TiffFile, other: Any, series: Any) -> bool:
    """Return whether another image of the file is part of its known structure, or a smaller version of the first."""
    if tiff.is_svs or tiff.is_ndpi or tiff.is_scn or tiff.is_bif:
        return True
    if getattr(other.keyframe, "is_reduced", False):
        return True
    sides = [(int(each.keyframe.imagelength), int(each.keyframe.imagewidth)) for each in (other, series)]
    (height, width), (full_height, full_width) = sides
    if height >= full_height or width >= full_width:
        return False
    return tiff.is_ome or abs((height / full_height) / (width / full_width) - 1) < _ENOUGH_LIKE
