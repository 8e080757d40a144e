"""Label maps that any program wrote: reading them, and giving each piece of a label a number of its own."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from data_pipeline.datasets.files import decode_label_map, grey_channel
from data_pipeline.exceptions import DataError
from searcher.evaluation.objects import IntArray

__all__ = ["NUMPY_SUFFIX", "read_label_map", "relabelled"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, an exception says, too

NUMPY_SUFFIX = ".npy"
_TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_MAX_TIFF_BYTES = 1 << 30
"""Largest one that is decoded, as Pillow has its limit: else a damaged header fills the memory."""
_COLOUR = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)

_SPECK_PX = 2
"""Pieces up to this area are dropped, as what is left over where glands were outlined by hand."""


def read_label_map(path: Path) -> IntArray:
    """Return the label map of a png, tif, bmp or npy file as integer[H, W], 0 background, values as they are.

    Raises:
        DataError: The file does not decode, or is no label map: integers of two dimensions, at least one pixel, none
            below 0, in png and bmp up to 16 bits.
    """
    suffix = path.suffix.lower()
    if suffix == NUMPY_SUFFIX:
        return _checked(path, _read_array(path))
    if suffix in _TIFF_SUFFIXES:  # of which Pillow does not know unsigned 32 bit
        return _checked(path, _read_tiff(path))
    return decode_label_map(path)


def _read_array(path: Path) -> Any:
    """Return what NumPy saved."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path}: must be a whole array of numbers as NumPy saves it, got {said}") from error


def _read_tiff(path: Path) -> NDArray[Any]:
    """Return the only page's values as they are stored; of a grey picture in colour, one of the equal channels."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if not len(tiff.pages):
                raise ValueError("no image in it")
            if len(tiff.pages) > 1:
                raise DataError(
                    f"{path}: a file must hold one image, got {len(tiff.pages)} pages; save them as single files"
                )
            page = tiff.pages.first
            if page.nbytes > _MAX_TIFF_BYTES:
                raise DataError(
                    f"{path}: a label map must take at most {_MAX_TIFF_BYTES >> 20} MiB, got {page.nbytes >> 20} MiB "
                    "by its header; cut it up"
                )
            values = page.asarray(maxworkers=1)
            if page.axes == "SYX":
                values = np.moveaxis(values, 0, -1)
            is_in_colour = page.photometric in _COLOUR and values.ndim == 3 and values.shape[2] in (3, 4)
    except DataError:
        raise
    except Exception as error:  # tifffile and its decoders raise nearly anything
        said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: the file must decode as an image, got {said}; replace the file") from error
    grey = grey_channel(values) if is_in_colour and np.issubdtype(values.dtype, np.integer) else None
    return values if grey is None else grey


def _checked(path: Path, labels: Any) -> IntArray:
    """Return an array as a label map if it is one."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or not labels.size:
        got = f"shape {labels.shape}" if isinstance(labels, np.ndarray) else "an archive of several arrays"
        raise DataError(f"{path}: a label map must have rows and columns, got {got}; save one array[H, W]")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: a label map must be of integers, got {labels.dtype}; "
            "save one number per instance, 0 for background"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{path}: labels must lie in 0..{np.iinfo(np.int64).max}, got {labels.min()} to {labels.max()}; "
            "number the instances from 1"
        )
    return np.ascontiguousarray(labels, np.int64 if labels.max() > np.iinfo(np.int32).max else np.int32)


def relabelled(labels: IntArray) -> NDArray[np.int32]:
    """Return the label map with every 8-connected piece of a label as an object of its own, specks dropped.

    In GlaS test B, images 3, 11, 18 and 19 carry one label for all their glands; a binary mask does as well.
    Objects of different labels stay apart where they touch. Pieces of up to 2 pixels are dropped.

    Args:
        labels: integer[H, W], 0 is background.

    Returns:
        int32[H, W], 1 to the number of pieces in the order of their first pixels.
    """
    from skimage.measure import label  # half a second to import

    pieces = label(labels, background=0, connectivity=2)
    is_kept = np.bincount(pieces.ravel(), minlength=1) > _SPECK_PX
    is_kept[0] = False
    numbers = np.where(is_kept, np.cumsum(is_kept), 0).astype(np.int32)
    found: NDArray[np.int32] = numbers[pieces]
    return found
