"""Ending what is left of a launch's own cluster: after a `kill -9` of its driver, or where a worker hangs.

    python -P leftovers.py FOLDER

is a process of some MB that waits for the end of its standard input, which the driver holds open. Then it ends every
process of the session, and removes the scratch folder. It needs no other module of the project.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["MARK", "end_processes", "ended_with_this_process"]

MARK = "SEARCHER_SCRATCH"
"""Variable that all processes of a session inherit: the path of its scratch folder."""

_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1


@contextmanager
def ended_with_this_process(folder: Path) -> Iterator[None]:
    """Context manager: all processes of a session are killed when the body ends, or when this process ends in any way.

    Args:
        folder: Scratch folder of the session, which is deleted then. The session's processes have the path in their
            command line or, as `SEARCHER_SCRATCH`, in their environment; this process has neither.
    """
    from searcher.child_environment import child_environment  # not where this file is run by itself

    waiting = subprocess.Popen(
        [sys.executable, "-P", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in child_environment().items() if name != MARK},
        start_new_session=True,  # Ctrl-C and a closing terminal are the driver's matter
    )
    assert waiting.stdin is not None
    try:
        yield
    finally:
        with suppress(OSError):
            waiting.stdin.close()
        try:
            waiting.wait(_WITHIN_S + 5.0)
        except (
            subprocess.TimeoutExpired
        ):  # it waits for a process that cannot be ended, in a network disk say
            waiting.kill()
            waiting.wait()


def end_processes(folder: str, *, within_s: float = _WITHIN_S) -> list[psutil.Process]:
    """Kill all of this user's processes of a session, including those started meanwhile, and return the survivors.

    Args:
        folder: Scratch folder of the session.
        within_s: Seconds to keep trying.

    Returns:
        The processes that still exist: the system keeps a process that waits for a disk.
    """
    give_up_at = time.monotonic() + within_s
    while found := [*_of_session(folder)]:
        for process in found:
            with suppress(psutil.Error):  # psutil compares the time of its creation: never another's number
                process.kill()
        if time.monotonic() > give_up_at:
            break
        time.sleep(_LOOK_EVERY_S)
    return found


def _of_session(folder: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if "leftovers.py" in " ".join(process.cmdline()[:3]):  # another that waits for the same end
                continue
            if any(_names(word, folder) for word in process.cmdline()) or (
                process.environ().get(MARK) == folder
            ):
                yield process


def _names(word: str, folder: str) -> bool:
    """Return whether a word of a command line holds the folder's path, and no longer name that begins like it."""
    return f"{folder}/" in word or word.endswith(folder)


def _main(folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(sys.argv[1])
