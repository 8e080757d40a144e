"""Label maps that any program wrote, as numbers: png, bmp, tif, npy and npz.

Values are used as they are stored. A palette's colours, an inverted look-up table and grey levels define how a label
map looks, not which instance a pixel belongs to. Fax compression alone stores 1 for black: there, white is 1.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.grey import grey_channel
from searcher.data_pipeline.images.plain import (
    check_ratio,
    opened_at_any_size,
    png_bit_depth,
    require_one_frame,
)
from searcher.data_pipeline.images.raster import decoding
from searcher.data_pipeline.images.reading import file_kind

__all__ = ["LabelHeader", "read_label_header", "read_labels", "read_wide_labels"]

_MAX_BYTES = 1 << 30
"""Largest label map that is decoded. Without this limit a damaged header could fill the memory."""
_RULE = "a label map must be a single-channel integer label map of 1 to 64 bits"
_REMEDY = "save it as a 16 bit PNG with one number per instance"
_GREY = {"L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N", "1"}
_COLOUR = {"RGB", "RGBA", "LA"}
_ARRAYS = ("labels", "masks", "label_map", "arr_0")


@dataclass(frozen=True, kw_only=True)
class LabelHeader:
    """Size, type and tags of a label map, read from its file without decoding values."""

    height: int
    width: int
    dtype: np.dtype[Any]
    """Of the stored values: bool for 1 bit."""
    is_inverted: bool = False
    """Whether 0 is shown white, which the values do not follow."""
    has_palette: bool = False
    """Whether the values stand for colours of a palette."""
    orientation: int = 1
    """The orientation tag of TIFF. It does not change the values, which are used as stored."""


def read_label_header(path: Path) -> LabelHeader:
    """Return size, type and tags of a label map, without decoding its values.

    Raises:
        DataError: The file cannot be read, or its header is not that of a label map.
    """
    with decoding(path):
        kind = _kind(path)
        if kind == "plain":
            return _plain_header(path)
        if kind == "tiff":
            from searcher.data_pipeline.images.tiff_labels import tiff_label_header

            return LabelHeader(**tiff_label_header(path))
        with _array_file(path, kind) as file:
            shape, dtype = _array_header(path, file)
        return LabelHeader(height=shape[0], width=shape[1], dtype=dtype)


def read_labels(path: Path) -> NDArray[np.int32]:
    """Return a label map as int32[H, W]: 0 is background, -1 not annotated, other values are as stored.

    Raises:
        DataError: The file cannot be decoded, is no label map, or has a label that does not fit into 32 bits.
    """
    labels = read_wide_labels(path)
    if labels.dtype != np.int32:
        raise DataError(
            f"{path}: labels must lie in 0..{np.iinfo(np.int32).max}, got {labels.max()}; "
            "number the instances from 1"
        )
    return labels.astype(np.int32, copy=False)


def read_wide_labels(path: Path) -> NDArray[np.int32] | NDArray[np.int64]:
    """Return a label map like `read_labels`, but as int64[H, W] if a label does not fit into 32 bits.

    Raises:
        DataError: The file cannot be decoded, or is no label map.
    """
    with decoding(path):
        kind = _kind(path)
        if kind == "plain":
            stored = _read_plain(path)
        elif kind == "tiff":
            from searcher.data_pipeline.images.tiff_labels import read_tiff_labels

            stored = read_tiff_labels(path, _MAX_BYTES)
        else:
            with _array_file(path, kind) as file:
                stored = _read_array(path, file)
        return _checked(path, stored)


def _kind(path: Path) -> str:
    is_array = path.suffix.lower() in (".npy", ".npz")
    kind = file_kind(path)
    if kind in ("npy", "npz") if is_array else kind in ("plain", "tiff"):
        return kind
    if is_array:
        raise DataError(
            f"{path}: must be a whole array of numbers as NumPy saves it, got another file; save it again"
        )
    raise ValueError("neither png, bmp, tif, npy nor npz by its first bytes")


def _plain_header(path: Path) -> LabelHeader:
    depth = png_bit_depth(path)
    with opened_at_any_size(path) as opened:
        require_one_frame(path, opened)
        check_ratio(path, opened)
        if opened.mode not in _GREY | _COLOUR:
            raise _not_single(path, opened.mode, len(opened.getbands()))
        is_deep = depth[0] == 16 if depth else opened.mode.startswith("I")
        dtype = np.dtype(bool if opened.mode == "1" else np.uint16 if is_deep else np.uint8)
        return LabelHeader(
            height=opened.height, width=opened.width, dtype=dtype, has_palette=opened.mode == "P"
        )


def _read_plain(path: Path) -> NDArray[Any]:
    header, depth = _plain_header(path), png_bit_depth(path)
    if header.height * header.width * 4 > _MAX_BYTES:
        raise _too_large(path, header.height * header.width * 4)
    if depth and depth[0] == 16 and depth[1] != 0:
        import imagecodecs  # Pillow would drop the low byte of 16 bit colour

        stored: NDArray[Any] = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    else:
        with opened_at_any_size(path) as opened:
            stored = np.array(opened)
    if stored.ndim == 3:
        grey = grey_channel(stored)
        if grey is None:
            raise _not_single(path, "colour or transparency", stored.shape[2])
        return grey
    if depth and depth[1] == 0 and depth[0] in (2, 4):
        stored //= 255 // ((1 << depth[0]) - 1)  # Pillow spreads few grey levels over 0 to 255
    return stored


class _ArrayFile:
    """An open .npy file, or the only array of a .npz file."""

    def __init__(self, path: Path, kind: str) -> None:
        self._archive = zipfile.ZipFile(path) if kind == "npz" else None
        if self._archive is None:
            self.file: IO[bytes] = path.open("rb")
            self.num_bytes = path.stat().st_size
        else:
            entry = _only_array(path, self._archive)
            self.file, self.num_bytes = self._archive.open(entry), entry.file_size

    def __enter__(self) -> "_ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self._archive is not None:
            self._archive.close()


def _array_file(path: Path, kind: str) -> _ArrayFile:
    try:
        return _ArrayFile(path, kind)
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path}: must be a whole archive of arrays as NumPy saves it, got {error}; save it again"
        ) from error


def _only_array(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the array of a .npz file: the only one, or the one that is called as label maps are."""
    entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(entries) == 1:
        return next(iter(entries.values()))
    named = [name for name in _ARRAYS if name in entries]
    if len(named) == 1:
        return entries[named[0]]
    raise DataError(
        f"{path}: must hold one array, or one that is called labels or masks, got {', '.join(entries) or 'none'}; "
        "save the label map by itself"
    )


def _array_header(path: Path, array: _ArrayFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array as its header tells them, checked against the size of the file."""
    shape, _, dtype = _npy_header(path, array)
    if dtype.hasobject:
        raise DataError(
            f"{path}: must be a whole array of numbers as NumPy saves it, got Python objects, which are not read; "
            "save numbers"
        )
    num_bytes = int(np.prod(np.array(shape, object))) * dtype.itemsize if shape else dtype.itemsize
    if num_bytes > array.num_bytes or any(side < 0 for side in shape):
        raise DataError(
            f"{path}: must be a whole array of numbers as NumPy saves it, got {array.num_bytes} bytes of "
            f"{num_bytes}; save it again"
        )
    if num_bytes > _MAX_BYTES:
        raise _too_large(path, num_bytes)
    if len(shape) != 2 or not num_bytes:
        raise DataError(
            f"{path}: a label map must have rows and columns, got shape {shape}; save one array[H, W]"
        )
    if dtype.kind not in "buif":
        raise DataError(f"{path}: a label map must be of integers, got {dtype}; {_REMEDY}")
    return shape, dtype


def _npy_header(path: Path, array: _ArrayFile) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(array.file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        return read(array.file)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise DataError(
            f"{path}: must be a whole array of numbers as NumPy saves it, got {said}; save it again"
        ) from error


def _read_array(path: Path, array: _ArrayFile) -> NDArray[Any]:
    shape, is_fortran, dtype = _npy_header(path, array)
    array.file.seek(0)
    _array_header(path, array)
    num_bytes = shape[0] * shape[1] * dtype.itemsize
    data = array.file.read(num_bytes)
    if len(data) < num_bytes:
        raise DataError(
            f"{path}: must be a whole array of numbers as NumPy saves it, got {len(data)} bytes of {num_bytes}; "
            "save it again"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _checked(path: Path, stored: NDArray[Any]) -> NDArray[np.int32] | NDArray[np.int64]:
    """Return stored values as a label map if they are one."""
    if stored.ndim != 2 or not stored.size:
        raise DataError(
            f"{path}: a label map must have rows and columns, got shape {stored.shape}; save one array[H, W]"
        )
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.trunc(stored)).all()):
        raise DataError(
            f"{path}: a label map must be of integers, got {stored.dtype} with parts of whole numbers; {_REMEDY}"
        )
    if stored.dtype.kind not in "buif":
        raise DataError(f"{path}: a label map must be of integers, got {stored.dtype}; {_REMEDY}")
    low, high = stored.min(), stored.max()
    limit = 2**53 if stored.dtype.kind == "f" else np.iinfo(np.int64).max
    if low < -1 or high > limit:
        raise DataError(
            f"{path}: labels must lie in 0..{np.iinfo(np.int32).max}, or be -1 where nothing is annotated, "
            f"got {low} to {high}; number the instances from 1"
        )
    labels: NDArray[Any] = np.ascontiguousarray(
        stored, np.int64 if high > np.iinfo(np.int32).max else np.int32
    )
    return labels


def _not_single(path: Path, mode: str, num_channels: int) -> DataError:
    got = {"F": "floating point"}.get(mode, f"{num_channels} channels")
    return DataError(f"{path}: {_RULE}, got {got} ({mode}); {_REMEDY}")


def _too_large(path: Path, num_bytes: int) -> DataError:
    return DataError(
        f"{path}: a label map must take at most {_MAX_BYTES >> 20} MiB, got {num_bytes >> 20} MiB by its header; "
        "cut it up"
    )
