"""Folders that one process at a time writes into: a new one for every run, or a lock on one that is shared."""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from searcher.exceptions import UserError

__all__ = ["claimed", "free_folder"]

logger = logging.getLogger(__name__)

_LOCK = ".in-use"
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)
"""How a file system without locks answers."""


def free_folder(folder: Path) -> Path:
    """Create and return a new folder: `folder`, or the first free one of `folder-2`, `folder-3`, ...

    If several processes request the same name at the same time, each gets another folder.

    Args:
        folder: The folder to create; missing parents are created, too.

    Raises:
        OSError: The folder cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        name = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            name.mkdir()
        except FileExistsError:
            continue
        return name
    raise AssertionError("unreachable")


@contextlib.contextmanager
def claimed(folder: Path, where: str) -> Iterator[None]:
    """Context manager that keeps other processes which claim the same folder out of it.

    The claim is a lock on a hidden file in the folder. It ends with the process, even after a kill. On a file system
    without locks, no process is kept out, and a warning is logged.

    Args:
        folder: An existing folder.
        where: Start of the error message, such as `--out DIR`.

    Raises:
        UserError: Another process has claimed the folder.
        OSError: The folder is not writable.
    """
    path = folder / _LOCK
    file = _locked(path, where)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # while the lock is held: nobody else has this file
            path.unlink()
        os.close(file)


def _locked(path: Path, where: str) -> int:
    """Return the descriptor of the file of that name, locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(file)
            os.close(file)
            if error.errno in _HELD:
                raise UserError(
                    f"{where}: must be written by one process at a time, got one that {holder} writes into; wait for "
                    "its end, or choose another folder"
                ) from None
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("%s: this file system has no locks; let no other process write there", path.parent)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if _is_named(file, path):
            return file
        os.close(file)  # its holder removed the name between our opening and our locking


def _is_named(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: int) -> str:
    words = os.pread(file, 200, 0).decode(errors="replace").split()
    return f"process {words[0]} on {words[1]}" if len(words) == 2 else "another process"
