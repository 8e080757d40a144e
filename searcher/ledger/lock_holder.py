"""Which other process holds the locks that a database is waited for."""

import contextlib
import os
from pathlib import Path

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from searcher.ledger.address import DatabaseAddress

__all__ = ["lock_holder"]

_LONGEST = sa.text(
    """
    SELECT a.pid, a.usename, a.application_name, host(a.client_addr) AS address,
           CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS INTEGER) AS seconds
    FROM pg_stat_activity a
    JOIN pg_locks l ON l.pid = a.pid AND l.granted AND l.locktype IN ('relation', 'advisory')
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
      AND (l.locktype = 'advisory' OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
      AND (l.relation IS NULL
           OR l.relation NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace))
    ORDER BY a.xact_start LIMIT 1
    """
)


def lock_holder(engine: Engine, address: DatabaseAddress) -> str | None:
    """Return a phrase that names the process that holds locks on the database, and for how long; None if unknown."""
    if address.is_sqlite:
        return _holder_of_file(Path(address.sqlite_path).absolute())
    with contextlib.suppress(sa.exc.SQLAlchemyError), engine.connect() as connection:
        found = connection.execute(_LONGEST).one_or_none()
        if found is not None:
            place = f" from {found.address}" if found.address else ""
            program = f", {found.application_name}," if found.application_name else ""
            return (
                f"session {found.pid} of {found.usename}{program}{place} has held locks for {found.seconds} s"
            )
    return None


def _holder_of_file(path: Path) -> str | None:
    """Linux lists all locks in /proc/locks, by inode."""
    inodes = set()
    for name in (path, Path(f"{path.resolve()}-shm")):
        with contextlib.suppress(OSError):
            inodes.add(name.stat().st_ino)
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.replace(
            "->", ""
        ).split()  # number, POSIX, ADVISORY, WRITE, process, device:inode, from, to
        if len(words) < 6 or words[3] != "WRITE" or words[5].rpartition(":")[2] not in map(str, inodes):
            continue
        pid = int(words[4])
        if pid > 0 and pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                return f"process {pid}, {psutil.Process(pid).name()}, holds the lock"
    return None
