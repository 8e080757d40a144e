"""Standard output and standard error, which may be closed, full, of another encoding, or without a reader."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from searcher.escaping import one_line
from searcher.exceptions import OutputClosedError, OutputError

__all__ = ["Output", "output", "prepare_streams", "say_error", "say_problem", "write_errors"]


def prepare_streams() -> None:
    """Replace closed standard streams by /dev/null; stdout and stderr escape characters that their encoding lacks.

    File descriptors 0 to 2 must be taken: otherwise the next opened file gets one, and receives what others print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  for the process
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


@contextmanager
def write_errors() -> Iterator[None]:
    """Context manager that turns a failed write to standard output into an error of ours, and drops later output.

    Raises:
        OutputClosedError: The reader of standard output, such as `head`, has gone.
        OutputError: Standard output cannot be written, for example because the disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        _drop(sys.stdout)
        raise OutputClosedError("standard output: its reader has gone") from None
    except OSError as error:
        _drop(sys.stdout)
        raise OutputError(
            f"standard output: must be writable, got {error.strerror or error}; send it elsewhere, or make room"
        ) from error


class Output:
    """A file object for standard output that follows changes of `sys.stdout`; see `write_errors`."""

    def __init__(self) -> None:
        self._is_optional = False

    @contextmanager
    def optional(self) -> Iterator[None]:
        """Context manager in which a failed write is ignored, for commands whose results are elsewhere."""
        before, self._is_optional = self._is_optional, True
        try:
            yield
        finally:
            self._is_optional = before

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        with self._errors():
            _stdout().write(text)
        return len(text)

    def flush(self) -> None:
        """Write buffered text to standard output."""
        with self._errors():
            _stdout().flush()

    def isatty(self) -> bool:
        """Return whether standard output is a terminal."""
        return bool(_stdout().isatty())

    def fileno(self) -> int:
        """Return the file descriptor of standard output."""
        return int(_stdout().fileno())

    @property
    def encoding(self) -> str:
        """Name of the encoding of standard output."""
        return getattr(_stdout(), "encoding", None) or "utf-8"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with write_errors():
                yield
        except OutputError:
            if not self._is_optional:
                raise


output = Output()
"""What everything is printed into."""


def say_error(error: Exception) -> None:
    """Print an error to standard error, each of its problems in one line with control characters escaped."""
    for problem in getattr(error, "problems", None) or [str(error)]:
        say_problem(problem)


def say_problem(text: str) -> None:
    """Print one line to standard error; do nothing if that cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        print(one_line(text), file=sys.stderr, flush=True)


def _stdout() -> Any:
    stream = sys.stdout
    # Rich's live view puts a proxy in its place, which prints into its console, which writes here.
    return getattr(stream, "rich_proxied_file", stream)


def _drop(stream: Any) -> None:
    """Send what is written from now on, and what is buffered, nowhere."""
    stream = getattr(stream, "rich_proxied_file", stream)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
