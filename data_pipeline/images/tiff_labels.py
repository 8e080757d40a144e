"""Label maps in TIFF files, by tifffile: of any depth, signed or not, of whole floating point numbers."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.grey import grey_channel
from searcher.data_pipeline.images.tiff_layout import opened_tiff, single_image

__all__ = ["read_tiff_labels", "tiff_label_header"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, an exception says, too

_MINISWHITE, _PALETTE = 0, 3
_FAX = {2, 3, 4, 32771}


def tiff_label_header(path: Path) -> dict[str, Any]:
    """Return the fields of a `LabelHeader` for a label map in a TIFF file, by name.

    Raises:
        DataError: The file does not hold exactly one label map.
    """
    with opened_tiff(path) as tiff:
        _, key = _page(path, tiff)
        orientation = key.tags.get(274)
        value = orientation.value if orientation is not None else 1
        return {
            "height": int(key.imagelength),
            "width": int(key.imagewidth),
            "dtype": np.dtype(bool) if int(key.bitspersample) == 1 else np.dtype(key.dtype),
            "is_inverted": int(key.photometric) == _MINISWHITE,
            "has_palette": int(key.photometric) == _PALETTE,
            "orientation": int(value) if value in range(1, 9) else 1,
        }


def read_tiff_labels(path: Path, max_bytes: int) -> NDArray[Any]:
    """Return the values of a label map in a TIFF file as stored, [H, W]; a grey picture in colour is accepted.

    Args:
        path: The file.
        max_bytes: Largest label map that is decoded, in bytes.

    Raises:
        DataError: The file does not hold exactly one label map, or the label map is too large.
    """
    with opened_tiff(path) as tiff:
        page, key = _page(path, tiff)
        if key.nbytes > max_bytes:
            raise DataError(
                f"{path}: a label map must take at most {max_bytes >> 20} MiB, got {key.nbytes >> 20} MiB by its "
                "header; cut it up"
            )
        stored: NDArray[Any] = page.asarray(maxworkers=1)
        if stored.ndim == 3:
            is_planar = int(key.planarconfig) == 2
            grey = grey_channel(np.moveaxis(stored, 0, -1) if is_planar else stored)
            if grey is None:
                raise _not_single(path, stored.shape)
            return grey
        if int(key.compression) in _FAX and int(key.photometric) == _MINISWHITE:  # 1 is ink on paper: black
            return ~stored.astype(bool)
        return stored


def _page(path: Path, tiff: tifffile.TiffFile) -> tuple[Any, Any]:
    pages, key, axes, samples = single_image(path, tiff)
    if axes == "CYX" or samples > 4:
        raise _not_single(path, tiff.series[0].shape)
    if key.dtype is None or np.dtype(key.dtype).kind not in "buif":
        raise DataError(f"{path}: a label map must be of integers, got {key.dtype}; save it as whole numbers")
    return pages[0], key


def _not_single(path: Path, shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"{path}: a label map must have rows and columns, one number a pixel, got shape {shape}; "
        "save it as a 16 bit PNG with one number per instance"
    )
