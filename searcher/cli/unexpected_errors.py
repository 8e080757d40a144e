"""What nobody foresaw: one line on the terminal, and a report to open an issue with."""

import errno
import os
import platform
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from searcher._version import __version__
from searcher.escaping import one_line

__all__ = ["Fault", "Secrets", "fault_of_a_path", "report_of", "unexpected"]

_VARIABLE = "SEARCHER_UNEXPECTED"
"""Set to `raise`, nothing is caught: for tests, which must not need this net, and for debugging."""
_MOST_CHARS = 300
_OF_THE_PATH = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
)
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
_IS_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|key|searcher_db|tracking_uri", re.IGNORECASE
)
_IN_TEXTS = (
    (re.compile(r"(://)[^\s'\"]*@"), r"\1***@"),
    (re.compile(r"(passw(?:or)?d\s*[=:]\s*)('[^']*'|\"[^\"]*\"|\S+)", re.IGNORECASE), r"\1***"),
)
_LEAST_SECRET_CHARS = 4
"""Shorter values, a port say, would be masked in every other word."""


class Secrets:
    """Secret values of the environment, taken before a command removes the variables, to mask them in reports.

    Args:
        environment: Environment variables by name.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        values = {part for name, value in environment.items() for part in _secret_parts(name, value)}
        self._values = sorted(values, key=len, reverse=True)

    def masked(self, text: str) -> str:
        """Return a text in which passwords and keys are replaced by `***`."""
        for value in self._values:
            text = text.replace(value, "***")
        for pattern, replacement in _IN_TEXTS:
            text = pattern.sub(replacement, text)
        return text


class Fault(NamedTuple):
    """The message and exit code for an error of the machine or the file system."""

    text: str
    code: int
    """The exit code: 2 where another path is the remedy."""


def fault_of_a_path(error: Exception) -> Fault | None:
    """Return message and exit code for an error about a path or the machine; None for other errors.

    A command that knows which option the path came from reports the error itself.
    """
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        name = str(error.object)[:_MOST_CHARS]
        return Fault(f"{name}: must be text in UTF-8, got bytes of another encoding; choose another name", 2)
    if not isinstance(error, OSError) or error.errno not in (*_OF_THE_PATH, *_OF_THE_MACHINE):
        return None
    where = "a file" if error.filename is None else str(error.filename)
    if len(where) > _MOST_CHARS:
        where = f"{where[:_MOST_CHARS]}..."
    if error.errno in _OF_THE_PATH:
        return Fault(f"{where}: must be a path that can be used, got {error.strerror}; choose another", 2)
    return Fault(f"{where}: could not be used, got {error.strerror}; see to the machine, and try again", 1)


def unexpected(error: Exception, command: str, secrets: Secrets) -> str:
    """Write a report of an error that nobody foresaw, and return a line about it.

    Args:
        error: The error.
        command: The command line.
        secrets: Values to mask.

    Returns:
        The error in a line, and where the report is.

    Raises:
        Exception: The error itself, if the variable `SEARCHER_UNEXPECTED` is `raise`.
    """
    if os.environ.get(_VARIABLE) == "raise":
        raise error
    where = report_of(error, command, secrets)
    said = one_line(secrets.masked(f"{type(error).__name__}: {error}"))
    if len(said) > _MOST_CHARS:
        said = f"{said[: _MOST_CHARS - 3]}..."
    return f"searcher: an error that should not happen: {said}; {where}"


def report_of(error: Exception, command: str, secrets: Secrets) -> str:
    """Write the traceback of an error into a new file that only this user can read.

    Args:
        error: The error.
        command: The command line.
        secrets: Values to mask.

    Returns:
        A phrase that says where the report is and what to do with it, or why there is none.
    """
    import tempfile

    report = secrets.masked(_report(error, command))
    try:
        number, path = tempfile.mkstemp(prefix="searcher-error-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except OSError as problem:
        return (
            f"no report could be written ({problem.strerror}); run again with {_VARIABLE}=raise to see where"
        )
    return (
        f"the report is {path}; read it through, then open an issue with it where searcher's source is kept"
    )


def _report(error: Exception, command: str) -> str:
    return (
        f"searcher {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{one_line(command)}\nin {one_line(_folder())}\n\n{''.join(traceback.format_exception(error))}"
    )


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a folder that is gone"


def _secret_parts(name: str, value: str) -> Iterator[str]:
    if _IS_SECRET.search(name) and len(value) >= _LEAST_SECRET_CHARS:
        if "://" not in value and "=" not in value and _exists(value):
            return  # the path of a key's file is none
        yield value.strip()
        found = re.search(r"://[^/@]*?:(.+)@", value)
        if found and len(found[1]) >= _LEAST_SECRET_CHARS:
            yield found[1]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # longer than the system takes, or not to be looked into
        return False
