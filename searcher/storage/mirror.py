"""This machine's folder for a storage root: the folder itself, or a mirror of an object store, filled on demand.

What is in a mirror may be removed at any time; the object store has all of it.
"""

import hashlib
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from searcher.atomic_files import write_atomically
from searcher.exceptions import StorageError, UserError
from searcher.settings import read_setting
from searcher.storage.folder import FolderStorage
from searcher.storage.object_store import ObjectStore, is_object_uri, normal_uri
from searcher.storage.protocol import Storage

__all__ = [
    "cache_dir",
    "fetch",
    "fetch_folder",
    "local_root",
    "named_root",
    "push",
    "root_text",
    "storage_at",
    "storage_of",
]

_MIRRORS = "mirrors"
_ORIGIN = ".origin"
"""File of a mirror with its object store's URI."""


def cache_dir() -> Path:
    """Return the folder of data stores and mirrors: `SEARCHER_CACHE`, or the user's cache folder.

    Raises:
        UserError: Neither is set, and this user has no home.
    """
    chosen = read_setting("SEARCHER_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = read_setting("XDG_CACHE_HOME")
    return (Path(base) if base else _home() / ".cache").absolute() / "gland-searcher"


def _home() -> Path:
    try:
        return Path.home()
    except (
        RuntimeError
    ):  # neither HOME nor an entry in /etc/passwd, as in a container with a number for a user
        raise UserError(
            f"SEARCHER_CACHE: must be set where user {os.getuid()} has no home, got neither HOME nor an entry in "
            "/etc/passwd; set it to a folder that can be written, or set HOME"
        ) from None


def named_root(option: str, text: str) -> str:
    """Return a root in the form that every process on every machine can use, and that the database has.

    Args:
        option: What named it, for messages.
        text: A folder's path or an object store's URI, as a person typed it.

    Raises:
        StorageError: It is a URI that holds a secret, or none that pyarrow knows.
    """
    return normal_uri(option, text) if is_object_uri(text) else str(Path(text).absolute())


def storage_at(text: str) -> Storage:
    """Return the storage that a root, as the database has it, names. No mirror is made for it."""
    return _store(text) if is_object_uri(text) else FolderStorage(Path(text))


def storage_of(root: Path) -> Storage:
    """Return the storage that this machine's folder of a root belongs to: the folder itself, or what it mirrors."""
    return _origin_of(root) or FolderStorage(root)


def local_root(text: str, cache: Path | None = None) -> Path:
    """Return this machine's folder for a storage root.

    Args:
        text: The root as the database has it: a folder's path, or an object store's URI.
        cache: Folder for mirrors; None takes `cache_dir()`.

    Raises:
        StorageError: The mirror cannot be made.
    """
    if not is_object_uri(text):
        return Path(text)
    root = (cache or cache_dir()) / _MIRRORS / _mirror_name(text)
    if _origin_text(root) != text:
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_atomically(root / _ORIGIN, lambda writer: writer.write(text.encode()))
        except OSError as error:
            raise StorageError(
                f"{root}: must be writable, for what is fetched from {text}, got {error.strerror}; "
                "choose another folder with SEARCHER_CACHE"
            ) from error
    return root


def _origin_of(root: Path) -> ObjectStore | None:
    """Return the object store that a folder is the mirror of, None for a folder that is the storage root itself."""
    text = _origin_text(root)
    return None if text is None else _store(text)


def root_text(root: Path) -> str:
    """Return a storage root as the database has it and people name it: the reverse of `local_root`."""
    return _origin_text(root) or str(root)


def fetch(root: Path, name: str, *, sha256: str | None = None) -> bool:
    """Bring one file of a mirror up to date; return whether the object store has it, and with that digest.

    Args:
        root: The mirror; of any other folder nothing is done.
        name: The file, relative to the root.
        sha256: Digest that it must have.

    Raises:
        StorageError: The object store cannot be reached or used.
    """
    origin = _origin_of(root)
    if origin is None:
        return (root / name).is_file()
    return origin.download(name, _below(root, name), sha256=sha256) is not None


def fetch_folder(root: Path, folder: str, suffixes: Collection[str]) -> None:
    """Update the files of one folder of a mirror that have one of the suffixes. `.pt` files are named by their content.

    Args:
        root: Folder of the mirror; another folder is left as it is.
        folder: Name below it.
        suffixes: Such as `.csv`.

    Raises:
        StorageError: As `fetch`.
    """
    origin = _origin_of(root)
    if origin is None:
        return
    for name, facts in origin.list(folder).items():
        path = _below(root, name)
        is_there = path.suffix == ".pt" and path.is_file() and path.stat().st_size == facts.num_bytes
        if path.suffix in suffixes and not is_there:
            origin.download(name, path)


def push(root: Path, name: str) -> None:
    """Put a file of a mirror into its object store; of any other folder nothing is done.

    Raises:
        StorageError: As `fetch`.
        OSError: The file cannot be read.
    """
    origin = _origin_of(root)
    if origin is not None:
        origin.upload(_below(root, name), name)


def _below(root: Path, name: str) -> Path:
    """Return a name's path. Names come from a listing that anybody with rights to the store could have written."""
    path = root / name
    if ".." in path.parts or Path(name).is_absolute():
        raise StorageError(
            f"{root_text(root)}: every object must lie below it, got the name {name}; remove it"
        )
    return path


def _mirror_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _origin_text(root: Path) -> str | None:
    if root.parent.name != _MIRRORS:
        return None
    try:
        text = (root / _ORIGIN).read_text()
    except OSError:
        return None
    return text if root.name == _mirror_name(text) else None


@lru_cache(maxsize=16)
def _store(text: str) -> ObjectStore:
    return ObjectStore(text)
