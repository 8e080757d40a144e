"""Looking for a secret where it must not be: processes, files, tables."""

import os
import re
from pathlib import Path
from typing import BinaryIO

import psutil
from chaos_facts import dump
from chaos_harness import Driver
from chaos_nodes import trains
from forks import forked_instead

__all__ = ["assert_kept"]

_CHUNK_BYTES = 1 << 24


def assert_kept(secret: str, driver: Driver, *folders: Path, url: str | None = None) -> str:
    """Check that a running driver keeps a secret.

    Neither command line, environment nor memory of a process that it started may hold it, nor its own command line,
    what it printed, any file below the folders, any table of the database.

    Args:
        secret: What to look for.
        driver: The driver, which itself knows it.
        folders: Where files are looked at.
        url: The database, if it can be reached now.

    Returns:
        What was looked at, for the table.
    """
    started = driver.family()
    family = [*{*started, *map(forked_instead, started)}]
    assert any(trains(process) for process in family), "a worker is among them"
    assert not [process.cmdline() for process in family if _knows(process, secret)]
    own = psutil.Process(driver.process.pid)
    assert _knows(own, secret), "the search finds it where it has to be"
    assert secret not in " ".join(own.cmdline())
    assert secret not in driver.output
    num_files = _assert_in_no_file(secret, folders)
    tables = {} if url is None else dump(url)
    assert secret not in str(tables)
    return f"{len(family)} processes, {num_files} files" + (f", {len(tables)} tables" if tables else "")


def _knows(process: psutil.Process, secret: str) -> bool:
    try:
        if secret in " ".join(process.cmdline()) + str(process.environ()):
            return True
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
            regions = re.findall(r"^(\w+)-(\w+) rw.p ", maps, re.MULTILINE)
            return any(_holds(memory, int(low, 16), int(high, 16), secret.encode()) for low, high in regions)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return False


def _holds(memory: BinaryIO, low: int, high: int, secret: bytes) -> bool:
    for start in range(low, high, _CHUNK_BYTES):
        try:
            memory.seek(start)
            if secret in (memory.read(min(_CHUNK_BYTES + len(secret), high - start)) or b""):
                return True
        except (OSError, OverflowError):  # pages that nobody may read
            continue
    return False


def _assert_in_no_file(secret: str, folders: tuple[Path, ...]) -> int:
    """Return how many files there are."""
    num_files = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                try:
                    content = path.read_bytes() if path.is_file() else b""
                except OSError:  # gone meanwhile
                    continue
                num_files += 1
                assert secret.encode() not in content, path
    return num_files
