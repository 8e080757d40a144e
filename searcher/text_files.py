"""Text files that people and other programs touched: one way of reading them, bounded in size and time.

Study files, addresses and tokens, tables and JSON files come from editors, spreadsheets and shells. They may begin with
a byte order mark, end lines in three ways, be in another encoding, or be no file at all.
"""

import codecs
import json
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from searcher.exceptions import TextFileError

__all__ = ["read_json", "read_text"]

_MAX_BYTES = 1 << 24
_CHUNK_BYTES = 1 << 20
_PIPE_WAIT_S = 10.0
_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins like UTF-16's mark, so it is looked for first
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_text(
    path: Path,
    *,
    where: str | None = None,
    what: str = "text",
    max_bytes: int = _MAX_BYTES,
    may_be_pipe: bool = False,
    keep_line_ends: bool = False,
) -> str:
    """Return the text of a UTF-8 file without byte order mark, with a line feed at the end of each line.

    Args:
        path: The file.
        where: Name of the file in messages; None for the path.
        what: What the file contains, for messages.
        max_bytes: Size of the largest file that is read.
        may_be_pipe: Whether a pipe is accepted, such as a shell's `<(command)`, if it is written within ten seconds.
        keep_line_ends: Whether line breaks are left unchanged, as the `csv` module needs them.

    Raises:
        TextFileError: The file cannot be read, is too large, is no file or is not UTF-8. The message does not show its
            content.
    """
    where = str(path) if where is None else where
    with _errors(where, what):
        content = _bytes_of(path, where, what, max_bytes, may_be_pipe=may_be_pipe)
    text = _decoded(content, where, what)
    return text if keep_line_ends else text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(
    path: Path, *, where: str | None = None, what: str = "JSON", max_bytes: int = _MAX_BYTES
) -> Any:
    """Return the value in a JSON file.

    Args:
        path: The file.
        where: Name of the file in messages; None for the path.
        what: What the file contains, for messages.
        max_bytes: Size of the largest file that is read.

    Raises:
        TextFileError: As for `read_text`, or the file is not JSON.
    """
    where = str(path) if where is None else where
    text = read_text(path, where=where, what=what, max_bytes=max_bytes)
    try:
        return json.loads(text)
    except RecursionError:
        reason = "tables within tables, too deep to read"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} in line {error.lineno}"
    except ValueError:  # of Python's limit for the digits of an integer
        reason = "an integer of thousands of digits"
    raise TextFileError(f"{where}: must be JSON ({what}), got {reason}; write the file again")


@contextmanager
def _errors(where: str, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise TextFileError(f"{where}: the file must exist; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise TextFileError(
            f"{where}: must be a readable file with {what}: {reason}; check the path"
        ) from None


def _bytes_of(path: Path, where: str, what: str, max_bytes: int, *, may_be_pipe: bool) -> bytes:
    # Without O_NONBLOCK, opening a pipe that nobody writes into waits for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        is_pipe = stat.S_ISFIFO(status.st_mode)
        if not stat.S_ISREG(status.st_mode) and not (is_pipe and may_be_pipe):
            kind = next((kind for test, kind in _KINDS if test(status.st_mode)), "no file")
            raise TextFileError(f"{where}: must be a file with {what}, got {kind}; check the path")
        chunks: list[bytes] = []
        num_bytes, num_expected = 0, status.st_size
        give_up_at = time.monotonic() + _PIPE_WAIT_S
        while num_bytes <= max_bytes and num_expected <= max_bytes:
            if is_pipe and not _has_something(descriptor, give_up_at):
                raise TextFileError(
                    f"{where}: must be a file with {what}, got a pipe that nothing came out of for "
                    f"{_PIPE_WAIT_S:.0f} s; check what writes into it"
                )
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            num_bytes += len(chunk)
    finally:
        os.close(descriptor)
    raise TextFileError(
        f"{where}: must be a file with {what} of at most {max_bytes} bytes, "
        f"got {max(num_bytes, num_expected)}; check the path"
    )


def _has_something(descriptor: int, give_up_at: float) -> bool:
    """Wait until a pipe can be read or is over; return whether that is so."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, give_up_at - time.monotonic()) * 1000))


def _decoded(content: bytes, where: str, what: str) -> str:
    remedy = "save it as UTF-8"
    for mark, name in _OTHER_ENCODINGS:
        if content.startswith(mark):
            raise TextFileError(f"{where}: must be {what} in UTF-8, got {name}; {remedy}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextFileError(
            f"{where}: must be {what} in UTF-8, got the byte 0x{content[error.start]:02x} in line {line}; {remedy}"
        ) from None
    if "\0" in text:
        raise TextFileError(
            f"{where}: must be {what} in UTF-8, got zero bytes, as UTF-16 and binary files have; {remedy}"
        )
    return text
