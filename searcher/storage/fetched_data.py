"""A data set that lies in an object store: fetched once to each machine, and again only where it changed there."""

import json
import os
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from searcher.atomic_files import write_atomically
from searcher.data_pipeline.datasets import SampleSource, open_dataset
from searcher.exceptions import StorageError
from searcher.storage.mirror import local_root
from searcher.storage.object_store import ObjectStore, is_object_uri
from searcher.storage.protocol import ObjectFacts

__all__ = ["open_data"]

_RETRY_FOR_S = 60.0
_THREADS = 8
_LISTING = ".fetched.json"
"""File of the data set's mirror with what was fetched: size and age of each object."""
_FILES = "files"


def open_data(
    text: str, cache: Path, *, strict: bool = True, progress: Callable[[int, int], None] | None = None
) -> SampleSource:
    """Return the data set in a folder or an object store, after downloading new files from the latter.

    Args:
        text: Folder or object store's URI of the data set.
        cache: Folder of data stores and mirrors.
        strict: See `open_dataset`.
        progress: Called with (files downloaded, files to download) after each file; not called if none is needed.

    Raises:
        DataError: The folder is missing, empty or of no known layout, or files in it are unusable, see `strict`.
        StorageError: The store cannot be used, has nothing below the URI, or its files cannot be written to `cache`.
    """
    folder = _fetch_data(text, cache, progress=progress) if is_object_uri(text) else Path(text)
    return open_dataset(folder, strict=strict)


def _fetch_data(
    uri: str,
    cache: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    retry_for_s: float = _RETRY_FOR_S,
) -> Path:
    """Return the folder with a data set's files, which are those of the object store.

    Several processes may ask at once: one fetches, the others wait for it. One that is killed leaves whole files, and
    the next one fetches the rest.

    Args:
        uri: As `normal_uri` returns it.
        cache: Folder of data stores and mirrors.
        progress: Called with (files fetched, files to fetch) after each file; never if all are in the mirror.
        retry_for_s: Seconds to try again where the store is away.

    Raises:
        StorageError: The store cannot be used, has nothing below the URI, or its files cannot be written to `cache`.
    """
    store = ObjectStore(uri, option="--data", retry_for_s=retry_for_s)
    root = local_root(uri, cache)
    try:
        with FileLock(root / ".lock"):
            listing = {name: [facts.num_bytes, facts.modified_ns] for name, facts in _listed(store).items()}
            folder = root / _FILES / _name(uri)
            _remove_others(folder, listing)
            fetched = _fetched(root / _LISTING)
            missing = [
                name
                for name, facts in listing.items()
                if fetched.get(name) != facts or _num_bytes(folder / name) != facts[0]
            ]
            if missing:
                _fetch_all(store, folder, missing, progress or (lambda _done, _total: None))
            if fetched != listing:
                text = json.dumps(listing)
                write_atomically(root / _LISTING, lambda writer: writer.write(text.encode()))
    except OSError as error:
        raise StorageError(
            f"{root}: must have room for the files of --data {uri}, got {error.strerror or error}; "
            "make room, or choose another folder with SEARCHER_CACHE"
        ) from error
    return folder


def _name(uri: str) -> str:
    """Return what a person would call the data set: the last part of the URI's path, or the bucket."""
    parts = urllib.parse.urlsplit(uri)
    name = Path(parts.path).name or parts.netloc
    return "data" if name.startswith(".") else name


def _listed(store: ObjectStore) -> dict[str, ObjectFacts]:
    listing = store.list()
    if not listing:
        raise StorageError(
            f"--data {store.uri}: must hold a data set, got no object below it; check the name"
        )
    for name in listing:
        if ".." in Path(name).parts or name.startswith("/"):
            raise StorageError(
                f"--data {store.uri}: every object must lie below it, got the name {name}; remove it"
            )
    return listing


def _remove_others(folder: Path, listing: dict[str, list[int]]) -> None:
    """Remove files that the object store has no more, and what a killed process left half-fetched."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if path.relative_to(folder).as_posix() not in listing:
                path.unlink()


def _fetch_all(
    store: ObjectStore, folder: Path, names: list[str], progress: Callable[[int, int], None]
) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        for done, _ in enumerate(
            threads.map(lambda name: store.download(name, folder / name), names), start=1
        ):
            progress(done, len(names))


def _fetched(path: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _num_bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
