"""Making a store of a data set, or finding the one that is there."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import Sample, SampleSource
from searcher.data_pipeline.exceptions import ChangedDataError, DamagedStoreError, DataError
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.store.classes import (
    NO_CLASSES,
    ClassTable,
    class_table,
    key_of,
    read_classes,
    write_classes,
)
from searcher.data_pipeline.store.index import INDEX, LABELS, PIXELS, Index, StoreEntry, to_bytes
from searcher.data_pipeline.store.integrity import identity_of, mark_checked, sha256
from searcher.data_pipeline.store.leftovers import PARTIAL, lock_path
from searcher.data_pipeline.store.mapped import Store
from searcher.data_pipeline.unannotated import is_partial

__all__ = ["prepare_store"]

logger = logging.getLogger(__name__)

_ALIGNMENT_BYTES = 64
_ATTEMPTS = 3
"""How often a data set is read whose files change meanwhile."""

Progress = Callable[[int, int], None]


def prepare_store(
    source: SampleSource,
    cache_dir: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    with_classes: bool = False,
) -> Store:
    """Return the store of a data set, building it first if it does not exist.

    Several processes may ask for the same store at once: one builds it, the others wait. Files left by a killed process
    are removed by the next build. A data set that changes while it is read is read again. So a store always matches its
    fingerprint, which may differ from an earlier `source.fingerprint`.

    Args:
        source: The dataset.
        cache_dir: Folder of all stores; created if it is missing.
        progress: Called with (images done, images in all) during a build; not called if the store exists.
        with_classes: Give the store the classes of its objects, if the data set has them. A store of an earlier release
            has no table of them: the images are then read once more.

    Raises:
        ChangedDataError: The data set kept changing; the message names a file.
        DamagedStoreError: The existing store holds other bytes than were written.
        DataError: Files cannot be decoded (all of them, one line each), the data set is empty, or the cache folder
            cannot be written or is full. Nothing is left then except an empty lock file.
    """
    if not source.samples:
        raise DataError(f"{source.name}: a dataset must hold at least one image, got none; check the folder")
    for _ in range(_ATTEMPTS - 1):
        try:
            return _prepared(source, cache_dir, progress or _ignore, with_classes=with_classes)
        except ChangedDataError as error:
            logger.warning("the data set is read again: %s", error)
    return _prepared(source, cache_dir, progress or _ignore, with_classes=with_classes)


def _ignore(_done: int, _total: int) -> None:
    pass


def _prepared(source: SampleSource, cache_dir: Path, progress: Progress, *, with_classes: bool) -> Store:
    store = _prepare(source, cache_dir, progress)
    if not with_classes:
        return store
    try:
        table = read_classes(store.path, key_of(source))
        if table is None and os.access(store.path, os.W_OK):
            with FileLock(lock_path(store.path)):
                table = read_classes(store.path, key_of(source)) or _extend(source, store, progress)
    except OSError as error:
        raise DataError(
            f"{store.path}: the store must be writable, got {error.strerror or error}; "
            "free space or choose another cache folder"
        ) from error
    return store.with_classes(table or _read_table(source, store, progress))


def _extend(source: SampleSource, store: Store, progress: Progress) -> ClassTable:
    """Write the class table that a store of an earlier release, or of other classes, lacks. The caller has the lock."""
    table = _read_table(source, store, progress)
    write_classes(store.path, key_of(source), table)
    return table


def _read_table(source: SampleSource, store: Store, progress: Progress) -> ClassTable:
    """Return the class table of a data set whose store is there.

    Raises:
        ChangedDataError: The data set is no longer what the store was built of.
    """
    if not hasattr(source, "read_annotated") or not getattr(source, "has_classes", True):
        return NO_CLASSES
    logger.info(
        "%s: the store gets the classes of its objects, for which images are read once more", store.path
    )
    names = []
    for index in range(len(source.samples)):
        names.append(_read(source, index)[2])
        progress(index + 1, len(source.samples))
    if source.fingerprint() != store.fingerprint:
        raise ChangedDataError(
            f"{source.name}: the data set must stay the same while it is read, got another fingerprint afterwards; "
            "wait until whatever writes it has ended, and try again"
        )
    return class_table(source, names)


def _read(source: SampleSource, index: int) -> tuple[Pixels, NDArray[np.int32], dict[int, str]]:
    """Return image, label map, and the class of each object that has one.

    Raises:
        DataError: As `source.read`.
    """
    annotated = getattr(source, "read_annotated", None)
    if annotated is None:
        return (*source.read(index), {})
    image, annotation = annotated(index)
    return image, annotation.labels, annotation.classes


def _prepare(source: SampleSource, cache_dir: Path, progress: Progress) -> Store:
    fingerprint = source.fingerprint()
    path = cache_dir / fingerprint
    if store := _open_whole(path):  # without the lock, so that a cache folder may be read-only
        return store
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_path(path)):
            if store := _open_whole(path):  # another process built it while this one waited
                return store
            _build(source, path, fingerprint, progress)
    except OSError as error:
        raise DataError(
            f"{cache_dir}: the store must be writable, got {error.strerror or error}; "
            "free space or choose another cache folder"
        ) from error
    return Store.open(path)


def _open_whole(path: Path) -> Store | None:
    """Return the store in `path` if it is there and whole.

    Raises:
        DamagedStoreError: It is there, and holds other bytes than were written. It is not built again in passing: a
            disk that forgets, or a tool that writes there, would go unseen.
    """
    if not path.exists():
        return None
    try:
        return Store.open(path)
    except DamagedStoreError:
        raise
    except DataError as error:
        logger.warning("the store has to be built again: %s", error)
        return None


def _build(source: SampleSource, path: Path, fingerprint: str, progress: Progress) -> None:
    """Write the store next to `path` and rename it into place. The caller holds the lock of `path`."""
    # One name, since only the lock's holder uses it: what a killed builder left is found and removed here.
    partial = path.with_name(path.name + PARTIAL)
    for leftover in (partial, path):
        if leftover.exists():
            logger.info("removing %s, which is not whole", leftover)
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        unsigned, table = _write_bins(source, partial, progress)
        index = replace(unsigned, fingerprint=fingerprint)
        # `read` compared each file with its digest. This finds what a source without files cannot.
        if source.fingerprint() != fingerprint:
            raise ChangedDataError(
                f"{source.name}: the data set must stay the same while it is read, got another fingerprint "
                "afterwards; wait until whatever writes it has ended, and try again"
            )
        if table.names:
            write_classes(partial, key_of(source), table)
        with (partial / INDEX).open("wb") as file:
            file.write(to_bytes(index))
            _sync(file)
        mark_checked(partial, identity_of(partial))
        _sync_folder(partial)
        partial.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_bins(source: SampleSource, folder: Path, progress: Progress) -> tuple[Index, ClassTable]:
    """Write both flat files; return their index, as yet without a fingerprint, and the table of classes.

    Raises:
        ChangedDataError: A file is no longer what it was when the fingerprint was taken.
        DataError: Every sample that could not be read, one line each.
    """
    entries: list[StoreEntry] = []
    problems: list[str] = []
    names: list[dict[int, str]] = []
    with (folder / PIXELS).open("wb") as pixels_file, (folder / LABELS).open("wb") as labels_file:
        for i, sample in enumerate(source.samples):
            try:
                image, labels, classes = _read(source, i)
            except ChangedDataError:
                raise
            except DataError as error:
                problems.extend(error.problems)
            else:
                # After a first problem nothing is written any more, but the other files are still checked.
                if not problems:
                    assert image.dtype == source.dtype, (sample.id, image.dtype, source.dtype)
                    assert image.shape == (*labels.shape, len(source.channels)), (image.shape, labels.shape)
                    names.append(classes)
                    entries.append(_append(sample, image, labels, pixels_file, labels_file))
            progress(i + 1, len(source.samples))
        if problems:
            raise DataError(*problems)
        _sync(pixels_file)
        _sync(labels_file)
        index = Index(
            fingerprint="",
            channels=source.channels,
            dtype=source.dtype,
            pixels_bytes=pixels_file.tell(),
            labels_bytes=labels_file.tell(),
            entries=entries,
            remarks=tuple(getattr(source, "remarks", ())),
        )
        return index, class_table(source, names)


def _append(
    sample: Sample,
    image: NDArray[Any],
    labels: NDArray[np.int32],
    pixels_file: BinaryIO,
    labels_file: BinaryIO,
) -> StoreEntry:
    """Append one sample to both files and return its entry in the index."""
    pixels = np.ascontiguousarray(image.astype(image.dtype.newbyteorder("<"), copy=False))
    is_small = labels.max(initial=0) <= np.iinfo(np.uint16).max and not is_partial(labels)
    dtype = np.dtype("<u2" if is_small else "<i4")
    numbers = np.ascontiguousarray(labels.astype(dtype))
    height, width = labels.shape
    return StoreEntry(
        sample=sample,
        shape=(height, width),
        pixels_offset=_write_aligned(pixels_file, pixels),
        labels_offset=_write_aligned(labels_file, numbers),
        labels_dtype=dtype.str,
        pixels_sha256=sha256(pixels),
        labels_sha256=sha256(numbers),
    )


def _write_aligned(file: BinaryIO, array: NDArray[Any]) -> int:
    """Write the array's bytes at the next aligned offset, which is returned."""
    file.write(b"\0" * (-file.tell() % _ALIGNMENT_BYTES))
    offset = file.tell()
    file.write(array.data)
    return offset


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
