"""Reading a log that another process writes, and showing it without obeying what it holds."""

import codecs
import os
from pathlib import Path
from typing import BinaryIO, Self

from searcher.escaping import harmless

__all__ = ["LogFile"]

_BLOCK_BYTES = 1 << 16


class LogFile:
    r"""A log file that may grow, be replaced or be cut short while it is read. Use as a context manager.

    Each call of `read` returns whole characters: an incomplete UTF-8 sequence at the end is returned by the next call.
    Bytes that are not UTF-8 are shown as `\xff`.

    Args:
        path: The file; it must exist.
        last_lines: Number of lines before the end to start from; None to start at the beginning.
    """

    def __init__(self, path: Path, *, last_lines: int | None = None) -> None:
        self.path = path
        self._file = _open(path)
        self._decoder = _decoder()
        if last_lines is not None:
            self._file.seek(_start_of_last(self._file, last_lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> str:
        """Return the text added since the last call, as `harmless` makes it: control characters are written out.

        If the file was replaced by another, the rest of the old file is returned, then all of the new one. If it was
        cut short, its text is returned from its start. If no file has the path any more, the old file is read on.
        """
        parts = [self._read_on()]
        if self._was_replaced():
            self._file.close()
            self._file, self._decoder = _open(self.path), _decoder()
            parts.append(self._read_on())
        return harmless("".join(parts))

    def _read_on(self) -> str:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # cut short: begun anew in place
            self._file.seek(0)
            self._decoder = _decoder()
        parts = []
        while block := self._file.read(_BLOCK_BYTES):
            parts.append(self._decoder.decode(block))
        return "".join(parts)

    def _was_replaced(self) -> bool:
        try:
            named = self.path.stat()
        except FileNotFoundError:  # moved away, and the next one is not there yet
            return False
        return not os.path.samestat(named, os.fstat(self._file.fileno()))


def _open(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")


def _start_of_last(file: BinaryIO, num_lines: int) -> int:
    """Return where the last lines of a file begin; reads backwards, so that a long log costs nothing."""
    position = file.seek(0, os.SEEK_END)
    missing = num_lines
    is_end = True
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block)
        if is_end and block.endswith(b"\n"):  # the last line's own end
            at -= 1
        is_end = False
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            missing -= 1
            if missing == 0:
                return position + at + 1
    return 0
