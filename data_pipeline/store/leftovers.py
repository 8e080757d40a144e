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
    """A folder of the cache that is no store, or no longer, and that nobody is making into one."""

    path: Path
    fingerprint: str
    """Of the data set that it was to hold."""
    problem: str
    num_bytes: int
    """Of its files."""


def find_leftovers(cache_dir: Path, *, fingerprint: str | None = None) -> list[Leftover]:
    """Return what killed builders left, and stores that do not open or hold other bytes than were written.

    Changes nothing. Compares the content of every store, which takes a second for each gigabyte. A store that is being
    built now is not among them, nor one that this user may not read, nor anything that was not named by
    `prepare_store`.

    Args:
        cache_dir: Folder of all stores.
        fingerprint: The data set to look for; None looks at all.
    """
    return [
        leftover
        for path in _stores(cache_dir, fingerprint)
        if (leftover := _leftover(path)) is not None and not _is_being_built(path)
    ]


def find_unverifiable(cache_dir: Path, *, fingerprint: str | None = None) -> list[Path]:
    """Return the stores that were built before stores had digests, so that nothing can tell whether they are whole."""
    found = []
    for path in _stores(cache_dir, fingerprint):
        with contextlib.suppress(DataError):
            if not Store.open_unchecked(path).has_digests:
                found.append(path)
    return found


def remove_leftover(leftover: Leftover) -> bool:
    """Remove a leftover; return whether it was still one, and went.

    Raises:
        DataError: It could not be removed.
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
    """Return the file that the process that builds or removes a store holds locked."""
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
