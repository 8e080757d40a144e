"""Verbs of the command line, run one after the other in one process of limited memory, as fuzzing needs them.

A process for each call would cost two seconds of imports. This one imports the command line once and limits its
address space afterwards, so that a verb that fills the memory fails instead of the machine.
"""

import contextlib
import io
import multiprocessing
import os
import resource
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

__all__ = ["Outcome", "VerbServer"]

MEMORY_BYTES = 3 << 30
"""Address space that a verb may take beyond what the imports took."""


@dataclass(frozen=True)
class Outcome:
    """What a verb did."""

    code: int
    out: str
    err: str
    trace: str = ""
    """The traceback of an exception that left `main`; empty if none did."""

    def check(self, *, codes: tuple[int, ...] = (0, 1, 2)) -> None:
        """Assert that the verb ended as every verb must: one line, a known exit code, no traceback."""
        assert not self.trace, self.trace
        assert self.code in codes, (self.code, self.err[-500:])
        assert "Traceback" not in self.out + self.err, self.err[-2000:]
        assert "\x1b" not in self.out + self.err, (self.out + self.err)[-500:]
        if self.code == 2:
            lines = (self.err or self.out).strip().splitlines()  # data inspect prints problems as its result
            assert lines, "bad input must be named"
            assert all(len(line) < 2000 for line in lines), max(map(len, lines))


class VerbServer:
    """A process that runs verbs.

    Args:
        folder: Where the verbs run.
        timeout_s: How long one verb may take.
    """

    def __init__(self, folder: Path, *, timeout_s: float = 60) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._start()

    def run(self, *arguments: str | Path) -> Outcome:
        """Run `searcher ARGUMENTS`.

        Raises:
            AssertionError: The verb took too long, or ended the process.
        """
        self._pipe.send([os.fspath(argument) for argument in arguments])
        if not self._pipe.poll(self._timeout_s):
            self.close()
            self._start()
            raise AssertionError(f"searcher {arguments}: took more than {self._timeout_s} s")
        try:
            outcome = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            raise AssertionError(f"searcher {arguments}: ended the process with {code}") from None
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._folder), daemon=True)
        self._process.start()
        theirs.close()


def _serve(pipe: Connection, folder: Path) -> None:
    os.chdir(folder)
    os.environ.pop("SEARCHER_DB", None)
    os.environ["SEARCHER_CACHE"] = str(folder / "cache")
    os.environ["NO_COLOR"] = "1"
    import searcher.models.registry  # noqa: F401
    from searcher.cli.main import main

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))
    while True:
        arguments = pipe.recv()
        out, err = io.StringIO(), io.StringIO()
        trace = ""
        code = 1
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                trace = traceback.format_exc()
        pipe.send(Outcome(code, out.getvalue(), err.getvalue(), trace[-4000:]))
