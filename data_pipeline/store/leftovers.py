"""What a cache folder holds that is no store: finding it, removing it."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.store.mapped import Store

__all__ = ["PARTIAL", "Leftover", "find_leftovers", "find_unverifiable", "lock_path", "remove_leftover"]

PARTIAL = ".partial"
"""What the name of a store ends in while it is built."""
_STORE_NAME = re.compile(rf"([0-9a-f]{{64}})({re.escape(PARTIAL)})?")


@dataclass(frozen=True)
class Leftover:
    """A folder in the cache that is not a usable store, and that no process is building."""

    path: Path
    fingerprint: str
    """Of the data set that it was to hold."""
    problem: str
    num_bytes: int
    """Of its files."""


def find_leftovers(cache_dir: Path, *, fingerprint: str | None = None) -> list[Leftover]:
    """Return the unfinished stores of killed processes, and the stores that are damaged or cannot be opened.

    Changes nothing. The content of every store is compared with its digests, which takes a second for each gigabyte.
    Left out are: stores that are being built, stores that this user may not read, and folders that `prepare_store` did
    not name.

    Args:
        cache_dir: Folder of all stores.
        fingerprint: Fingerprint of one data set; None for all.
    """
    return [
        leftover
        for path in _stores(cache_dir, fingerprint)
        if (leftover := _leftover(path)) is not None and not _is_being_built(path)
    ]


def find_unverifiable(cache_dir: Path, *, fingerprint: str | None = None) -> list[Path]:
    """Return the stores without digests, built by old versions: it cannot be checked whether they are intact.

    Args:
        cache_dir: Folder of all stores.
        fingerprint: Fingerprint of one data set; None for all.
    """
    found = []
    for path in _stores(cache_dir, fingerprint):
        with contextlib.suppress(DataError):
            if not Store.open_unchecked(path).has_digests:
                found.append(path)
    return found


def remove_leftover(leftover: Leftover) -> bool:
    """Delete a leftover; return False if it is no leftover any more, or a process holds it.

    Raises:
        DataError: The folder cannot be deleted.
    """
    path = leftover.path
    try:
        with FileLock(lock_path(path), timeout=0):
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


def lock_path(path: Path) -> Path:
    """Return the path of the lock file that a process holds while it builds or deletes the store at `path`."""
    return path.with_name(f"{path.name.removesuffix(PARTIAL)}.lock")


def _stores(cache_dir: Path, fingerprint: str | None) -> Iterator[Path]:
    """Yield the folders that are named as stores are, whole or partial."""
    if not cache_dir.is_dir():
        return
    for path in sorted(cache_dir.iterdir()):
        name = _STORE_NAME.fullmatch(path.name)
        if name is not None and fingerprint in (None, name[1]) and path.is_dir() and not path.is_symlink():
            yield path


def _leftover(path: Path) -> Leftover | None:
    """Return what is wrong with a store or what was to become one; None if nothing is."""
    if not path.is_dir():
        return None
    if path.name.endswith(PARTIAL):
        problem = f"{path}: half-built, and its builder is gone"
    else:
        try:
            Store.open_unchecked(path).compare()
            return None
        except DataError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                return None  # it may be whole
            problem = str(error)
    return Leftover(
        path, fingerprint=path.name.removesuffix(PARTIAL), problem=problem, num_bytes=_num_bytes(path)
    )


def _num_bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):  # a builder is at work: then it is no leftover
        for file in folder.iterdir():
            total += file.lstat().st_size
    return total


def _is_being_built(path: Path) -> bool:
    """Return whether a process holds the lock of a store, or may hold it."""
    lock = lock_path(path)
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True
