"""Files that are either completely old or completely new, even if the process or machine stops during a write."""

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "HashingWriter",
    "WrittenFile",
    "exchange",
    "link_or_copy",
    "sha256_of",
    "sync_folder",
    "write_atomically",
]

_CHUNK_BYTES = 1 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written: its path, digest and size."""

    path: Path
    sha256: str
    """SHA-256 of the content, 64 hexadecimal digits."""
    num_bytes: int


class HashingWriter:
    """Writes to a binary file, and computes size and SHA-256 of the written bytes on the way.

    `torch.save` calls `write` from C++, where an exception about a full disk would be reported as a broken archive. So
    the first `OSError` is kept in `error`, later bytes are dropped, and the caller checks `error` at the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.num_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of `data`, and return its size in bytes."""
        num_bytes = memoryview(data).nbytes
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        self._digest.update(data)
        self.num_bytes += num_bytes
        return num_bytes

    def flush(self) -> None:
        """Write buffered bytes to the operating system."""
        if self.error is None:
            try:
                self._file.flush()
            except OSError as error:
                self.error = error

    def sha256(self) -> str:
        """Return the digest of everything written so far."""
        return self._digest.hexdigest()


def write_atomically(path: Path, write: Callable[[HashingWriter], object]) -> WrittenFile:
    """Replace `path` by what `write` writes, once that is safely on disk, and return the file's digest and size.

    The content is written to `<name>.tmp` in the same folder, flushed to disk, and renamed to `path`. Then the folder
    is flushed. The temporary name is fixed, so that a file left by a killed process is replaced.

    Raises:
        OSError: The content could not be written, or another process has begun to write the same file, which then
            replaces it. `path` is unchanged and the temporary file is deleted.
    """
    with _temporary(path) as temporary:
        # Not written in place: what a kill in `link_or_copy` left is a second name of a file that is needed.
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            writer = HashingWriter(file)
            write(writer)
            writer.flush()
            if writer.error is not None:
                raise writer.error
            os.fsync(file.fileno())
            is_ours = _is_named(file, temporary)
        if is_ours:
            temporary.replace(path)
    if not is_ours:  # renaming it would have put another process's half-written file in place
        raise OSError(errno.EBUSY, "another process writes this file at the same time", os.fspath(path))
    sync_folder(path.parent)
    return WrittenFile(path=path, sha256=writer.sha256(), num_bytes=writer.num_bytes)


def _is_named(file: BinaryIO, path: Path) -> bool:
    """Return whether `path` is still the name of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def link_or_copy(source: Path, path: Path) -> None:
    """Replace `path` atomically by a hard link to `source`, or by a copy if the file system has no links.

    A link is safe because neither file is ever changed in place, only replaced.

    Raises:
        OSError: See `write_atomically`.
    """
    with _temporary(path) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            with source.open("rb") as original, temporary.open("wb") as copy:
                shutil.copyfileobj(original, copy, _CHUNK_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
        temporary.replace(path)
        # Renaming one of two links of the same file over the other does nothing and keeps both names.
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two folders or files on the same file system, so that each name always exists.

    Linux does it in one step. Elsewhere, `other` does not exist for a moment.

    Raises:
        OSError: They could not be exchanged, and are unchanged.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc 2.28
    if renameat2 is not None:
        names = os.fsencode(one), os.fsencode(other)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):  # this kernel or file system cannot
            raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))
    aside = one.with_name(f"{one.name}.aside")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def sha256_of(file: BinaryIO) -> tuple[str, int]:
    """Return SHA-256 and size in bytes of an open file; its position is then the beginning."""
    digest = hashlib.sha256()
    num_bytes = 0
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        num_bytes += len(chunk)
    file.seek(0)
    return digest.hexdigest(), num_bytes


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, after files in it were renamed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
