"""Whether a data set's files are, when they are decoded, what they were when the fingerprint was taken.

A file may change in between: a sync is still copying, somebody corrects a label. Then a store would hold other pixels
than its fingerprint says, for every later study.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from searcher.data_pipeline.exceptions import ChangedDataError, DataError

__all__ = ["Contents"]

_CHUNK_BYTES = 1 << 20
_TICK_NS = 2_000_000_000
"""Coarsest clock of a file system: of two writes within it, the file's times tell only one."""

_Identity = tuple[tuple[int, int, int, int], ...]
"""Inode, size, time of the last write and of the last change, of a file, or of all files of a folder."""


@dataclass(frozen=True)
class _Known:
    digest: bytes
    identity: _Identity
    is_settled: bool
    """Whether a later write is sure to change the identity."""


class Contents:
    """Remembers the digests of files and folders, and tells whether they have changed since.

    Threads may share one.
    """

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def digest(self, path: Path) -> bytes:
        """Return the SHA-256 of a file's bytes, or of the names and bytes in a folder, as 32 bytes. It is remembered.

        Raises:
            ChangedDataError: The file changed while it was read.
            DataError: A file cannot be read.
        """
        identity = _identity(path)
        digest = _digest(path)
        if _identity(path) != identity:
            raise _changed(path)
        newest = max((max(times) for _, _, *times in identity), default=0)
        self._known[path] = _Known(digest, identity, time.time_ns() - newest > _TICK_NS)
        return digest

    @contextmanager
    def unchanged(self, *paths: Path) -> Iterator[None]:
        """Context manager around decoding files: checks that they are the files whose digests were taken.

        Raises:
            ChangedDataError: A file differs from the one whose digest was taken, or changed meanwhile.
            DataError: A file cannot be read.
        """
        before = {path: self._check(path) for path in paths}
        try:
            yield
        except DataError:
            self._check_again(before)  # half a file does not decode, and is no damaged one
            raise
        self._check_again(before)

    def _check(self, path: Path) -> _Identity:
        """Return a path's identity if the content is as its digest says."""
        identity, known = _identity(path), self._known.get(path)
        if known is not None and identity != known.identity and _digest(path) != known.digest:
            raise _changed(path)
        return identity

    def _check_again(self, before: dict[Path, _Identity]) -> None:
        for path, identity in before.items():
            known = self._known.get(path)
            if _identity(path) != identity:
                raise _changed(path)
            if known is None or (known.is_settled and identity == known.identity):
                continue
            if _digest(path) != known.digest:
                raise _changed(path)


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _identity(path: Path) -> _Identity:
    try:
        stats = [file.stat() for file in _files(path)]
    except OSError as error:
        raise _unreadable(path, error) from error
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in stats)


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for file in _files(path):
                digest.update(file.relative_to(path).as_posix().encode() + b"\0" + _digest(file))
            return digest.digest()
        with path.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.digest()


def _changed(path: Path) -> ChangedDataError:
    return ChangedDataError(
        f"{path}: the file must stay the same while the data set is read, got other content than before; "
        "wait until whatever writes it has ended, and try again"
    )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: the file must be readable, got {error.strerror}; restore it")
