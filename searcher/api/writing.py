"""Writing the files that a person asked for: all or nothing, and refused before the work that goes into them."""

import os
from pathlib import Path

from searcher.exceptions import UserError

__all__ = ["check_writable", "write_bytes", "write_text"]


def check_writable(option: str, path: Path | None) -> None:
    """Check that a file can be written, before the work whose result goes into it. Nothing is created.

    Args:
        option: The option that named the file, for the message.
        path: The file; None if there is none to write.

    Raises:
        UserError: The file's folder is missing or cannot be written to, or the path is a folder.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{option} {path}: its folder must exist; create {folder}")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: must be a file that can be written; choose another path")


def write_text(option: str, path: Path, text: str) -> None:
    r"""Write a text file in UTF-8, atomically; see `write_bytes`.

    Bytes in file names that are not UTF-8, as in old archives, are written as `\udcfc`.

    Args:
        option: The option that named the file, for the message.
        path: The file.
        text: Its content.
    """
    write_bytes(option, path, text.encode("utf-8", "backslashreplace"))


def write_bytes(option: str, path: Path, content: bytes) -> None:
    """Write a file atomically: either all of it, or nothing.

    Args:
        option: The option that named the file, for the message.
        path: The file.
        content: Content of the file.

    Raises:
        UserError: The file could not be written; an existing file is unchanged.
    """
    from searcher.atomic_files import write_atomically

    try:
        if path.exists() and not path.is_file():  # /dev/null, a pipe: root would replace it by a file
            path.write_bytes(content)
            return
        write_atomically(path, lambda writer: writer.write(content))
    except OSError as error:
        raise UserError(f"{option} {path}: could not be written: {error.strerror or error}") from error
