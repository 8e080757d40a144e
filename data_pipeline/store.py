"""The store: a dataset decoded once into flat files that every process maps.

`CACHE/<fingerprint>/pixels.bin` holds all images one after the other (uint8 RGB), `labels.bin` all label maps
(little-endian uint16, int32 where a label needs it), `index.json` what lies where. A process that maps them
pays no private memory for the pixels; the page cache is shared by all processes of the machine.

A store is either whole or not there: it is written under another name, synced, and renamed into place while a
lock is held. The index is written last and carries its own digest and the size of the other two files.
"""

import contextlib
import hashlib
import json
import logging
import mmap
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from data_pipeline.datasets.base import Sample, SampleSource
from data_pipeline.exceptions import DataError

__all__ = ["Leftover", "Store", "find_leftovers", "prepare_store", "remove_leftover"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_PIXELS, _LABELS, _INDEX = "pixels.bin", "labels.bin", "index.json"
_PARTIAL = ".partial"
_STORE_NAME = re.compile(rf"([0-9a-f]{{64}})({re.escape(_PARTIAL)})?")
_ALIGNMENT_BYTES = 64


class Store:
    """A decoded dataset, mapped read-only. Open one with `Store.open`, build one with `prepare_store`.

    Threads may share a store. Pickling one sends its path: the other process maps the same files.
    """

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path = path
        self.fingerprint: str = index["fingerprint"]
        self.samples: Sequence[Sample] = tuple(
            Sample(e["id"], e["split"], e["group"], e["stratum"], e.get("pixel_size_um"))
            for e in index["samples"]
        )
        pixels = _map(path / _PIXELS, index["pixels_bytes"])
        labels = _map(path / _LABELS, index["labels_bytes"])
        # The views are made once: `image` and `labels` are called for every sample of every epoch.
        self._images = [_view(pixels, e["pixels_offset"], "|u1", (*e["shape"], 3)) for e in index["samples"]]
        self._labels = [
            _view(labels, e["labels_offset"], e["labels_dtype"], e["shape"]) for e in index["samples"]
        ]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Return the store in a folder.

        Raises:
            DataError: There is no store, or it is not whole: a file is missing, truncated or changed.
        """
        try:
            index = _read_index(path)
            for file, size in ((_PIXELS, index["pixels_bytes"]), (_LABELS, index["labels_bytes"])):
                actual = (path / file).stat().st_size
                if actual != size:
                    raise DataError(
                        f"{path / file}: must be {size} bytes, got {actual}; remove {path} and prepare it again"
                    )
            return cls(path, index)
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename}: a store needs this file, got nothing; prepare the data set again"
            ) from error
        except OSError as error:
            raise DataError(
                f"{path}: the store must be readable, got {error.strerror}; check its mode"
            ) from error

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Store({self.fingerprint[:12]}, {len(self)} images, {str(self.path)!r})"

    def __reduce__(self) -> tuple[Callable[[Path], "Store"], tuple[Path]]:
        return Store.open, (self.path,)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return the image as uint8[H, W, 3] (RGB): a read-only view of the map."""
        return self._images[index]

    def labels(self, index: int) -> NDArray[np.uint16] | NDArray[np.int32]:
        """Return the instance label map as uint16 or int32[H, W]: a read-only view of the map."""
        return self._labels[index]

    def indices(self, split: str) -> list[int]:
        """Return the indices of one split's samples, ascending; empty when there are none."""
        return [i for i, sample in enumerate(self.samples) if sample.split == split]


def prepare_store(
    source: SampleSource, cache_dir: Path, *, progress: Callable[[int, int], None] | None = None
) -> Store:
    """Return the store of a dataset, building it first where it does not exist yet.

    Several processes may ask for the same store at once: one builds, the others wait for it. What a killed
    process left behind is removed by the next build.

    Args:
        source: The dataset.
        cache_dir: Folder of all stores; created when missing.
        progress: Called with (images done, images in all) while building; not at all when the store exists.

    Raises:
        DataError: Files that cannot be decoded (all of them, one line each), an empty dataset, or a cache
            folder that cannot be written or is full. Nothing but an empty lock file is left then.
    """
    if not source.samples:
        raise DataError(f"{source.name}: a dataset must hold at least one image, got none; check the folder")
    fingerprint = source.fingerprint()
    path = cache_dir / fingerprint
    if store := _open_whole(path):  # without the lock, so that a cache folder may be read-only
        return store
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_path(path)):
            if store := _open_whole(path):  # another process built it while this one waited
                return store
            _build(source, path, fingerprint, progress or (lambda _done, _total: None))
    except OSError as error:
        raise DataError(
            f"{cache_dir}: the store must be writable, got {error.strerror or error}; "
            "free space or choose another cache folder"
        ) from error
    return Store.open(path)


@dataclass(frozen=True)
class Leftover:
    """A folder of the cache that is no store and that nobody is making into one."""

    path: Path
    fingerprint: str
    """Of the data set that it was to hold."""
    problem: str
    num_bytes: int
    """Of its files."""


def find_leftovers(cache_dir: Path) -> list[Leftover]:
    """Return what a cache folder holds of builders that were killed, and stores that do not open. Changes nothing.

    A store that is being built now is not among them, nor one that this user may not read, nor anything that was not
    named by `prepare_store`.
    """
    if not cache_dir.is_dir():
        return []
    found = (_leftover(path) for path in sorted(cache_dir.iterdir()))
    return [leftover for leftover in found if leftover is not None and not _is_being_built(leftover.path)]


def remove_leftover(leftover: Leftover) -> bool:
    """Remove a leftover; return whether it was still one, and went.

    Raises:
        DataError: It could not be removed.
    """
    path = leftover.path
    try:
        with FileLock(_lock_path(path), timeout=0):
            if _leftover(path) is None:
                return False
            shutil.rmtree(path)
            return True
    except Timeout:
        return False
    except OSError as error:
        raise DataError(
            f"{path}: could not be removed, got {error.strerror or error}; check its permissions"
        ) from error


def _leftover(path: Path) -> Leftover | None:
    """Return what is wrong with a folder of the cache, None if nothing is or it is not ours."""
    name = _STORE_NAME.fullmatch(path.name)
    if name is None or path.is_symlink() or not path.is_dir():
        return None
    if name[2] is None:
        try:
            Store.open(path)
            return None
        except DataError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                return None  # it may be whole
            problem = str(error)
    else:
        problem = f"{path}: half-built, and its builder is gone"
    return Leftover(path, fingerprint=name[1], problem=problem, num_bytes=_num_bytes(path))


def _num_bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):  # a builder is at work: then it is no leftover
        for file in folder.iterdir():
            total += file.lstat().st_size
    return total


def _is_being_built(path: Path) -> bool:
    """Return whether a process holds the lock of a store, or may hold it."""
    lock = _lock_path(path)
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix(_PARTIAL)}.lock")


def _open_whole(path: Path) -> Store | None:
    """Return the store in `path` if it is there and whole."""
    if not path.exists():
        return None
    try:
        return Store.open(path)
    except DataError as error:
        logger.warning("the store has to be built again: %s", error)
        return None


def _build(source: SampleSource, path: Path, fingerprint: str, progress: Callable[[int, int], None]) -> None:
    """Write the store beside `path` and rename it into place. The caller holds the lock of `path`."""
    # One name, since only the lock's holder uses it: what a killed builder left is found and removed here.
    partial = path.with_name(path.name + _PARTIAL)
    for leftover in (partial, path):
        if leftover.exists():
            logger.info("removing %s, which is not whole", leftover)
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        index = _write_bins(source, partial, progress) | {"format": _FORMAT, "fingerprint": fingerprint}
        with (partial / _INDEX).open("wb") as file:
            file.write(json.dumps(index | {"digest": _digest(index)}).encode())
            _sync(file)
        _sync_folder(partial)
        partial.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_bins(source: SampleSource, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write both flat files and return what the index says of them.

    Raises:
        DataError: Every sample that could not be read, one line each.
    """
    entries: list[dict[str, Any]] = []
    problems: list[str] = []
    with (folder / _PIXELS).open("wb") as pixels_file, (folder / _LABELS).open("wb") as labels_file:
        for i, sample in enumerate(source.samples):
            try:
                image, labels = source.read(i)
            except DataError as error:
                problems.extend(error.problems)
            else:
                # After a first problem nothing is written any more, but the other files are still checked.
                if not problems:
                    entries.append(_append(sample, image, labels, pixels_file, labels_file))
            progress(i + 1, len(source.samples))
        if problems:
            raise DataError(*problems)
        _sync(pixels_file)
        _sync(labels_file)
        return {
            "pixels_bytes": pixels_file.tell(),
            "labels_bytes": labels_file.tell(),
            "samples": entries,
        }


def _append(
    sample: Sample,
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    pixels_file: BinaryIO,
    labels_file: BinaryIO,
) -> dict[str, Any]:
    """Append one sample to both files and return its entry in the index."""
    assert image.dtype == np.uint8, image.dtype
    assert image.shape == (*labels.shape, 3), (image.shape, labels.shape)
    dtype = np.dtype("<u2" if labels.max(initial=0) <= np.iinfo(np.uint16).max else "<i4")
    return {
        "id": sample.id,
        "split": sample.split,
        "group": sample.group,
        "stratum": sample.stratum,
        "pixel_size_um": sample.pixel_size_um,
        "shape": list(labels.shape),
        "pixels_offset": _write_aligned(pixels_file, image),
        "labels_offset": _write_aligned(labels_file, labels.astype(dtype)),
        "labels_dtype": dtype.str,
    }


def _write_aligned(file: BinaryIO, array: NDArray[Any]) -> int:
    """Write the array's bytes at the next aligned offset, which is returned."""
    file.write(b"\0" * (-file.tell() % _ALIGNMENT_BYTES))
    offset = file.tell()
    file.write(np.ascontiguousarray(array).data)
    return offset


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((path / _INDEX).read_bytes())
        digest = index.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError):
        index, digest = {}, ""
    if digest != _digest(index):
        raise DataError(
            f"{path / _INDEX}: the index must match its own digest, got a damaged file; "
            f"remove {path} and prepare the data set again"
        )
    if index["format"] != _FORMAT:
        raise DataError(
            f"{path / _INDEX}: the store must have format {_FORMAT}, got {index['format']}; "
            f"remove {path} and prepare the data set again"
        )
    return index


def _digest(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _map(path: Path, size: int) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), dtype=np.uint8)


def _view(data: NDArray[np.uint8], offset: int, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    return np.ndarray(tuple(shape), dtype=dtype, buffer=data, offset=offset)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
