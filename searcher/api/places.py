"""Where a data set, a study database and a storage root lie, from what a person wrote."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.exceptions import UserError
from searcher.settings import without_frame

if TYPE_CHECKING:
    from searcher.ledger.address import DatabaseAddress

__all__ = [
    "DEFAULT_DATABASE",
    "data_place",
    "database_place",
    "read_secret",
    "storage_folder",
    "storage_place",
]

DEFAULT_DATABASE = "searcher.db"
"""File in the working folder that is the study database where nobody names one."""
_MAX_SECRET_BYTES = 1 << 16


def data_place(data: str | os.PathLike[str] | None) -> str | None:
    """Return the absolute path or the URI of a data set, valid on every machine; None if none was given.

    Raises:
        UserError: The URI contains a secret, or pyarrow does not support it.
    """
    from searcher.storage.mirror import named_root

    return None if data is None else named_root("--data", os.fspath(data))


def storage_place(storage: str | os.PathLike[str]) -> str:
    """Return the absolute path or the URI of a storage root, valid on every machine, as stored in the database.

    Raises:
        UserError: The URI contains a secret, or pyarrow does not support it.
    """
    from searcher.storage.mirror import named_root

    return named_root("--storage", os.fspath(storage))


def storage_folder(storage: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the storage root on this machine; for an object store, that of its mirror.

    Raises:
        UserError: The path is not a writable folder, or the object store cannot be used.
    """
    from searcher.storage.mirror import local_root, storage_of

    root = local_root(storage_place(storage))
    storage_of(root).check_use()
    return root


def database_place(db: str | os.PathLike[str] | None, from_environment: str | None) -> "DatabaseAddress":
    """Return the study database's address: of `db`, else of `SEARCHER_DB`, else `searcher.db` in the working folder.

    Args:
        db: A file's path, a URL, or `@FILE`, a file that holds the URL; None or white space if not given.
        from_environment: The value of `SEARCHER_DB`, in the same forms; None if not set.

    Raises:
        UserError: The text is no path and no URL, or `@FILE` cannot be read.
    """
    from searcher.ledger.address import parse_url

    given = "" if db is None else without_frame(os.fspath(db))
    text = given or from_environment or DEFAULT_DATABASE
    if text.startswith("@"):
        return parse_url(read_secret("--db @", Path(text[1:]), "the URL"))
    return parse_url(text)


def read_secret(option: str, path: Path, what: str) -> str:
    """Return the only line of a file that contains a secret, such as a URL with a password.

    Args:
        option: The option that named the file, as written before its name.
        path: The file.
        what: What the file contains, for messages.

    Raises:
        UserError: The file cannot be read, or does not have exactly one line; its content is not shown.
    """
    from searcher.text_files import read_text

    text = read_text(
        path, where=f"{option}{path}", what=what, max_bytes=_MAX_SECRET_BYTES, may_be_pipe=True
    ).strip()
    if not text or "\n" in text:
        raise UserError(
            f"{option}{path}: must hold {what} in one line, got {len(text.splitlines())}; check the file"
        )
    return text
