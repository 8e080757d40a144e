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
    """Return the folder for data stores and mirrors: `SEARCHER_CACHE`, or one in the user's cache folder.

    Raises:
        UserError: The variable is not set, and this user has no home folder.
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
    """Return a storage root or data folder in the form that is valid on every machine and stored in the database.

    Args:
        option: The option that named it, for messages.
        text: Folder or object store's URI, as the user wrote it.

    Raises:
        StorageError: The text is a URI that contains a secret, or that pyarrow does not support.
    """
    return normal_uri(option, text) if is_object_uri(text) else str(Path(text).absolute())


def storage_at(text: str) -> Storage:
    """Return the storage for a root as stored in the database. Creates no mirror."""
    return _store(text) if is_object_uri(text) else FolderStorage(Path(text))


def storage_of(root: Path) -> Storage:
    """Return the storage for a local folder: an object store if the folder is its mirror, or the folder itself."""
    return _origin_of(root) or FolderStorage(root)


def local_root(text: str, cache: Path | None = None) -> Path:
    """Return the folder on this machine for a storage root: the folder itself, or the mirror of an object store.

    Args:
        text: The root as stored in the database: a folder or an object store's URI.
        cache: Folder for mirrors; None for `cache_dir()`.

    Raises:
        StorageError: The mirror cannot be created.
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
    """Return the storage root of a local folder, as stored in the database: the reverse of `local_root`."""
    return _origin_text(root) or str(root)


def fetch(root: Path, name: str, *, sha256: str | None = None) -> bool:
    """Download one file of a mirror if it changed; return whether the object store has it, with the digest.

    Args:
        root: Folder of the mirror. For any other folder, only the file's existence is returned.
        name: Path of the file, relative to the root.
        sha256: Digest that the file must have; None for any.

    Raises:
        StorageError: The object store cannot be reached or used.
    """
    origin = _origin_of(root)
    if origin is None:
        return (root / name).is_file()
    return origin.download(name, _below(root, name), sha256=sha256) is not None


def fetch_folder(root: Path, folder: str, suffixes: Collection[str]) -> None:
    """Download the changed files of a folder in a mirror that have one of the endings.

    Existing `.pt` files are not downloaded again, because their names contain their digests.

    Args:
        root: Folder of the mirror. For any other folder, nothing happens.
        folder: Path of the folder, relative to the root.
        suffixes: Endings of the files, such as `.csv`.

    Raises:
        StorageError: See `fetch`.
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
    """Upload a file of a mirror to its object store. For any other folder, nothing happens.

    Raises:
        StorageError: See `fetch`.
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
