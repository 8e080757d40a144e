"""Folders for what Ray writes and nobody reads, and for trials whose files are kept elsewhere.

They are removed at the end, or by the next process that makes one where this one is killed.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["scratch_folder"]

_LONGEST_PARENT = 20
"""A Unix socket's path has at most 107 bytes, and Ray's own part of it needs some 70."""


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder; it is gone afterwards, and so are those of killed processes.

    Args:
        parent: Where to make it, on this machine's own disk or in a folder that no other machine uses; made if it is
            missing. None takes one with a short path.
    """
    if parent is None:
        parent = Path(tempfile.gettempdir())
        if len(str(parent)) > _LONGEST_PARENT:
            parent = Path("/tmp")
    parent.mkdir(parents=True, exist_ok=True)
    space = _process_space()
    _remove_leftovers(parent, space)
    folder = Path(tempfile.mkdtemp(prefix=f"searcher-{space}-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(parent: Path, space: str) -> None:
    """Remove this user's scratch folders whose process, of this process namespace, is no more."""
    named = re.compile(rf"searcher-{space}-(\d+)-")
    for folder in parent.glob(f"searcher-{space}-*"):
        match = named.match(folder.name)
        try:
            is_ours = folder.lstat().st_uid == os.getuid()
        except OSError:
            continue
        if match and is_ours and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _process_space() -> str:
    """Return what tells this process namespace from that of a container that shares the folder."""
    try:
        return f"{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        return "0"
