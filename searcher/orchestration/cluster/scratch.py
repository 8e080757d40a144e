"""Folders for Ray's own files, and for trials whose files are kept elsewhere.

They are removed at the end, or by the next process that makes one where this one is killed.
"""

import atexit
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from searcher.exceptions import UserError
from searcher.orchestration.cluster.leftovers import end_processes

__all__ = ["give_home", "homeless", "scratch_folder", "short_scratch_folder"]

_LONGEST_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""Of a Unix socket's path."""
_SOCKET_OF_RAY = f"session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
"""What Ray (2.60) appends to its temporary folder: time, this process, the longest of its sockets' names."""
_LEAST_ROOM_BYTES = 1 << 20
"""Without it Ray's processes die of what they cannot write, and Ray (2.60) waits a minute and a half for them."""
_RAYS = "r"
"""Folder within the scratch folder for Ray, which opens it to everybody."""


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Context manager that yields a new empty folder, and deletes it at the end, with those of killed processes.

    Only this user may enter the folder.

    Args:
        parent: Folder in which it is created, on this machine's own disk or used by no other machine; created if it is
            missing. None for the folder for temporary files.
    """
    if parent is None:
        parent = temporary_folder()
    parent.mkdir(parents=True, exist_ok=True)
    space = _process_space()
    _remove_leftovers(parent, space)
    folder = _new_private(parent, f"searcher-{space}-{os.getpid()}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_folder() -> Path:
    """Return the folder for temporary files: TMPDIR, or the system's.

    Raises:
        UserError: None of these folders exists and is writable.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise UserError(
            f"TMPDIR: must be a folder that can be written, got {os.environ.get('TMPDIR') or 'none'}, and nothing can "
            "be written into /tmp either; set TMPDIR to one"
        ) from None


def homeless() -> bool:
    """Return whether this user has no home folder: neither `HOME` nor an entry in /etc/passwd."""
    try:
        Path.home()
    except RuntimeError:
        return True
    return False


def give_home() -> None:
    """Use a scratch folder as home of this process and its children, until this process ends.

    Ray (2.60) expands `~` when it is imported and keeps a token there; torch asks for the user's name.
    """
    folders = ExitStack()
    os.environ["HOME"] = str(folders.enter_context(scratch_folder()))
    os.environ.setdefault("USER", str(os.getuid()))
    atexit.register(folders.close)


@contextmanager
def short_scratch_folder() -> Iterator[Path]:
    """Context manager that yields an empty folder for Ray, with a path short enough for Ray's sockets.

    Ray makes the folder and its content writable for everybody (mode 0777), so it is in a folder that only this user
    may enter. It is in the folder for temporary files if the path is short enough and there is room, otherwise in
    `/tmp`.

    Raises:
        UserError: Both paths are too long, not writable, or without room.
    """
    problems = []
    for parent in dict.fromkeys([temporary_folder(), Path("/tmp")]):
        if len(os.fsencode(_longest(parent))) > _LONGEST_SOCKET_BYTES:
            problems.append(f"{parent}, whose path is too long for Ray's sockets")
        elif not os.access(parent, os.W_OK | os.X_OK):
            problems.append(f"{parent}, which cannot be written")
        elif (free := shutil.disk_usage(parent).free) < _LEAST_ROOM_BYTES:
            problems.append(f"{parent}, which has {free >> 10} KiB free")
        else:
            break
    else:
        raise UserError(
            f"TMPDIR: must be a folder with a short path and room that can be written, got {' and '.join(problems)}; "
            "set TMPDIR to one"
        )
    with scratch_folder(parent) as folder:
        inner = folder / _RAYS
        inner.mkdir()
        yield inner


def _longest(parent: Path) -> str:
    """Return the longest path of a socket that Ray can come to below a folder."""
    return f"{parent}/searcher-{_process_space()}-{os.getpid()}-123/{_RAYS}/{_SOCKET_OF_RAY}"


def _new_private(parent: Path, prefix: str) -> Path:
    """Return a new folder as `tempfile.mkdtemp` makes it, with a shorter name."""
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(2)[:3]}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder


def _remove_leftovers(parent: Path, space: str) -> None:
    """Remove this user's scratch folders whose process, of this process namespace, is no more.

    Processes that still have such a folder's path in their command line, as Ray's own have, are ended first.
    """
    named = re.compile(rf"searcher-{space}-(\d+)-")
    for folder in parent.glob(f"searcher-{space}-*"):
        match = named.match(folder.name)
        try:
            is_ours = folder.lstat().st_uid == os.getuid()
        except OSError:
            continue
        if match and is_ours and not psutil.pid_exists(int(match[1])):
            end_processes(str(folder))
            shutil.rmtree(folder, ignore_errors=True)


def _process_space() -> str:
    """Return an identifier of this process namespace, which differs from that of a container that shares the folder."""
    try:
        return f"{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        return "0"
