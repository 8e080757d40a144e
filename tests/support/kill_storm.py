"""Verbs killed with SIGKILL at chosen moments: between two of the things that they do to files and databases.

A verb's run is measured in effects, calls such as `replace`, `unlink`, `execute` and `commit`, and not in seconds: so
its whole run is covered however busy the machine is, and a seed repeats it.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["KillStorm"]

_EFFECTS = frozenset(
    {
        *("open", "write", "flush", "fsync", "replace", "rename", "renameat2", "link", "unlink", "remove"),
        *(
            "mkdir",
            "rmdir",
            "rmtree",
            "chmod",
            "execute",
            "executemany",
            "exec_driver_sql",
            "commit",
            "rollback",
        ),
    }
)
"""Names of functions, of C and of Python, before and after each of which a verb may be killed."""
_DRAWS = ("searcher.report.pictures", "learning_curve")
"""A function that writes nothing, by its module: to count its millions of calls takes longer than all else."""


class KillStorm:
    """Runs `searcher` verbs in processes that are forked from one that has imported all they need.

    Args:
        chance: Chooses the moments.
        imports: Modules of the verbs, imported once, which takes seconds.
    """

    def __init__(self, chance: random.Random, *imports: str) -> None:
        self.chance = chance
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._server = context.Process(target=_serve, args=(theirs, imports))
        self._server.start()
        theirs.close()

    def run(self, folder: Path, *words: str) -> tuple[int, str]:
        """Run a verb to its end in a folder; return its exit code and what it printed.

        Args:
            folder: The present folder of the verb.
            words: Its command line; `open URL` opens a database as a launch does, and upgrades it so.
        """
        code, _, output = self._ask(folder, words, None)
        return code, output

    def moments(self, folder: Path, *words: str, count: int) -> list[int]:
        """Run a verb to its end, and return as many moments of such a run, spread over it."""
        code, num_effects, output = self._ask(folder, words, 10**9)
        assert code == 0, output
        assert num_effects > 10, (num_effects, output)
        part = num_effects / count
        found = [1 + int(part * (each + self.chance.random())) for each in range(count)]
        self.chance.shuffle(found)
        return found

    def kill(self, folder: Path, *words: str, at: int) -> bool:
        """Run a verb and kill it at a moment; return whether it was still at work then."""
        code, _, output = self._ask(folder, words, at)
        assert code in (0, 1, 2, -signal.SIGKILL), output
        assert "Traceback" not in output, output
        return code == -signal.SIGKILL

    def close(self) -> None:
        """End the process that the others are forked from."""
        self._pipe.close()
        self._server.join(10)
        self._server.kill()
        self._server.join()

    def _ask(self, folder: Path, words: tuple[str, ...], kill_at: int | None) -> tuple[int, int, str]:
        environment = {
            name: os.environ[name] for name in ("SEARCHER_CACHE", "SEARCHER_DB") if name in os.environ
        }
        self._pipe.send((folder, words, kill_at, environment))
        if not self._pipe.poll(100):
            raise AssertionError(f"searcher {' '.join(words)} does not end")
        return self._pipe.recv()


def _serve(pipe: Any, imports: tuple[str, ...]) -> None:
    import importlib

    for name in ("searcher.cli.main", *imports):
        importlib.import_module(name)
    while True:
        try:
            folder, words, kill_at, environment = pipe.recv()
        except EOFError:
            return
        read, write = os.pipe()
        with _output() as output:
            child = os.fork()
            if child == 0:
                _run(folder, words, kill_at, environment, output, write)
            os.close(write)
            _, status = os.waitpid(child, 0)
            with os.fdopen(read) as counted:
                num_effects = int(counted.read() or 0)
            os.lseek(output, 0, os.SEEK_SET)
            printed = os.read(output, 1 << 20).decode(errors="replace")
        pipe.send((os.waitstatus_to_exitcode(status), num_effects, printed))


@contextlib.contextmanager
def _output() -> Iterator[int]:
    file = os.memfd_create("output")
    try:
        yield file
    finally:
        os.close(file)


def _run(
    folder: Path,
    words: tuple[str, ...],
    kill_at: int | None,
    environment: dict[str, str],
    output: int,
    count: int,
) -> None:
    """Be the verb, and end this process."""
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(folder)
        os.environ |= environment
        from searcher.cli.main import main

        counter = _Counter(kill_at)
        if kill_at is not None:
            _spare(*_DRAWS, counter)
            sys.setprofile(counter)
        try:
            code = _open(words[1]) if words[0] == "open" else main([*words])
        finally:
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(count, str(counter.num_effects).encode())
    except BaseException:
        import traceback

        os.write(output, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _spare(module: str, name: str, counter: "_Counter") -> None:
    """Let a function run without being counted, if its module is imported."""
    if module not in sys.modules:
        return
    function = getattr(sys.modules[module], name)

    def uncounted(*args: Any, **kwargs: Any) -> Any:
        sys.setprofile(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(counter)

    setattr(sys.modules[module], name, uncounted)


def _open(url: str) -> int:
    from searcher.ledger.database import Database

    Database.open(url, create=True).close()
    return 0


class _Counter:
    """Counts effects, and kills this process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.num_effects = 0
        self._kill_at = kill_at

    def __call__(self, frame: FrameType, event: str, about: Any) -> None:
        # Of C's functions `about` is the function; of Python's it is what one returns, which may be anything.
        name = about.__name__ if event.startswith("c_") else frame.f_code.co_name
        if name not in _EFFECTS:
            return
        self.num_effects += 1
        if self.num_effects == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
