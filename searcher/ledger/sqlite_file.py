"""The file of an SQLite database: where it may lie, how it is opened, and whether it is still the same file."""

import contextlib
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from searcher.exceptions import DatabaseError, DatabaseReplacedError

__all__ = ["FileIdentity", "check_file", "reading_uri"]

_NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs|cifs|smb|lustre|ceph|gluster|beegfs|gpfs|9p|afs|coda|pvfs|orangefs|panfs|weka|quobyte|dav|vboxsf|vmhgfs|prl_fs",
    re.IGNORECASE,
)
_LOCAL_FUSE = frozenset(
    f"fuse.{name}"
    for name in (
        *(
            "fuse-overlayfs",
            "overlayfs",
            "overlay",
            "ntfs",
            "ntfs-3g",
            "exfat",
            "mergerfs",
            "unionfs",
            "aufs",
        ),
        *("gocryptfs", "encfs", "cryfs", "ecryptfs", "zfs-fuse", "lklfuse", "fuse-ext2", "btrfs", "apfs"),
    )
)
"""What runs in user space on a disk of this machine. Of any other such file system nobody knows where its files lie."""


def check_file(path: Path, *, create: bool) -> None:
    """Check that a path is, or can become, an SQLite database on a local disk.

    Args:
        path: Absolute path of the file.
        create: Whether the file may be missing, and must be writable.

    Raises:
        DatabaseError: The file cannot be used.
    """
    where = f"--db {path}"
    try:
        exists = path.exists()
    except OSError as error:
        raise DatabaseError(
            f"{where}: must be a path that can be read: {error.strerror}; choose another"
        ) from None
    if not exists and not create:
        raise DatabaseError(f"{where}: the database must exist; launch a study first, or check the path")
    if not path.parent.is_dir():
        raise DatabaseError(f"{where}: its folder must exist; create {path.parent}")
    if path.is_dir():
        raise DatabaseError(f"{where}: must be a file, got a folder; add a file name such as searcher.db")
    if exists and not path.is_file():
        raise DatabaseError(f"{where}: must be a file, got a device or a pipe; choose another path")
    file_system = _file_system(path)
    if _is_remote(file_system):
        raise DatabaseError(
            f"{where}: SQLite must lie on a local disk, got {file_system}, whose locks cannot be trusted; "
            "use a local path or PostgreSQL"
        )
    if create and not _is_writable(path):
        raise DatabaseError(
            f"{where}: must be writable, its folder too, got one that this user may only read; "
            "change the permissions, or choose another path"
        )
    if exists:
        _check_is_sqlite(path)


def reading_uri(path: Path) -> str | None:
    """Return the SQLite URI for reading a file that this user cannot write; None if the file is writable.

    In write-ahead mode even a reader writes files next to the database, unless no other process has it open.

    Raises:
        DatabaseError: The last driver did not close the database, so that a part of it is in a log that cannot be read.
    """
    path = path.resolve()
    if _is_writable(path):
        return None
    uri = f"{path.as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        log = Path(f"{path}-wal")
        if not (log.exists() and log.stat().st_size):
            return f"{uri}&immutable=1"
        raise DatabaseError(
            f"--db {path}: must be closed, or in a folder that can be written, got a write-ahead log beside it that "
            "this user cannot read; let its owner run `searcher status`, or copy the file and its -wal elsewhere"
        ) from None
    return uri


@dataclass(frozen=True)
class FileIdentity:
    """The identity (device and inode) of the file to which a path led when it was opened."""

    path: Path
    log: Path
    """Its write-ahead log's, next to the file itself and not to a link."""
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileIdentity":
        """Return the identity of an existing file."""
        found = path.stat()
        return cls(path, Path(f"{path.resolve()}-wal"), found.st_dev, found.st_ino)

    def check(self) -> None:
        """Check that the path still leads to the same file. Writes to another file, or to a deleted one, would be lost.

        Raises:
            DatabaseReplacedError: The path leads to another file, or to none.
        """
        try:
            found = self.path.stat()
            got = None if (found.st_dev, found.st_ino) == (self.device, self.inode) else "another file"
        except FileNotFoundError:
            got = "no file"
        except OSError as error:
            got = f"{error.strerror}"
        if got is not None:
            raise _replaced(self.path, got)

    def log_inode(self) -> int | None:
        """Return the inode of the file's write-ahead log; None if there is no log."""
        with contextlib.suppress(OSError):
            return self.log.stat().st_ino
        return None

    def check_log(self, inode: int | None) -> None:
        """Check that the write-ahead log is still the one with `inode`, into which an open connection writes.

        Raises:
            DatabaseReplacedError: The log is another file, or is missing.
        """
        if inode is not None and self.log_inode() != inode:
            raise _replaced(self.path, "another write-ahead log, or none, beside it")


def _replaced(path: Path, got: str) -> DatabaseReplacedError:
    return DatabaseReplacedError(
        f"--db {path}: must stay the file that was opened, got {got}: it was deleted or replaced while it was in use; "
        "keep sync tools away from it, bring back the newest copy, then launch again"
    )


def _is_writable(path: Path) -> bool:
    """Return whether a file and its folder can be written; the disk may be mounted read-only."""
    path = path.resolve()
    return os.access(path.parent, os.W_OK | os.X_OK) and (not path.exists() or os.access(path, os.W_OK))


def _check_is_sqlite(path: Path) -> None:
    """Let SQLite look at the file.

    Never open it in any other way. Closing such a handle releases the locks that this process's connections hold on the
    file. Another process may then remove the write-ahead log (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    if not os.access(path, os.R_OK):
        raise DatabaseError(f"--db {path}: must be readable; check its permissions")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise DatabaseError(
                f"--db {path}: must be an SQLite database, got another kind of file; check the path"
            ) from None
        # Else such as a lock, which the first real statement waits for, or a folder that cannot be written.


def _file_system(path: Path) -> str:
    """Return the type of the file system that has a file, or will have it, after following links."""
    real = path.resolve()
    mounts = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounts[str(place)] for place in [real, *real.parents] if str(place) in mounts), "")


def _is_remote(file_system: str) -> bool:
    if file_system.startswith("fuse."):
        return file_system not in _LOCAL_FUSE
    return file_system == "fuse" or bool(_NETWORK_FILE_SYSTEMS.search(file_system))
