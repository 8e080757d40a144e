"""Whether a store still holds the bytes that were written into it: compared with their digests once a boot.

Disks lose bits, tools write into the cache folder, and copies end early. The flat files then keep their size, and a
network would train on labels that nobody drew. Comparing takes about a second for each gigabyte. So a comparison is
recorded in the same folder: for this boot of this machine, with the files' inode, size and times.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DamagedStoreError
from searcher.data_pipeline.store.index import LABELS, PIXELS, Index, StoreEntry

__all__ = ["Identity", "check_content", "check_once_a_boot", "identity_of", "mark_checked", "sha256"]

_MARKER = "checked.json"
_LOCK = "checking.lock"
_MAX_BOOTS = 32
"""Boots that a marker remembers: a cache folder may be shared by the machines of a cluster."""
_THREADS = 4
_DAY_S = 86400

Identity = list[list[int]]
"""Inode, size, time of the last write and of the last change in nanoseconds, of both flat files."""
View = Callable[[StoreEntry], tuple[NDArray[np.generic], NDArray[np.generic]]]
"""From an entry of the index to its pixels and its label map."""


def sha256(array: NDArray[np.generic]) -> str:
    """Return the SHA-256 of a C-contiguous array's bytes as 64 hexadecimal digits."""
    return hashlib.sha256(array.data).hexdigest()


def identity_of(path: Path) -> Identity:
    """Return inode, size and times of a store's flat files: a value that changes when a file is written.

    Raises:
        OSError: A file is missing or its state cannot be read.
    """
    stats = ((path / name).stat() for name in (PIXELS, LABELS))
    return [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats]


def check_once_a_boot(path: Path, index: Index, view: View) -> None:
    """Compare a store's content with its digests, unless that was done since the machine started.

    If several processes ask at once, one compares and the others wait. A store without digests passes.

    Args:
        path: The store's folder.
        index: The store's index.
        view: Function that returns the pixels and labels of an entry.

    Raises:
        DamagedStoreError: An image or label map differs from its digest.
        OSError: A file cannot be read.
    """
    if not index.has_digests or _is_checked(path):
        return
    with _lock(path):
        if not _is_checked(path):
            identity = identity_of(path)
            check_content(path, index, view)
            mark_checked(path, identity)


def check_content(path: Path, index: Index, view: View) -> None:
    """Compare every image and label map of a store with its digest.

    Args:
        path: The store's folder, for the message.
        index: The store's index.
        view: Function that returns the pixels and labels of an entry.

    Raises:
        DamagedStoreError: At least one image or label map differs from its digest; the message names them.
    """

    def damage(entry: StoreEntry) -> list[str]:
        pixels, labels = view(entry)
        compared = (("pixels", pixels, entry.pixels_sha256), ("labels", labels, entry.labels_sha256))
        return [
            f"{what} of {entry.sample.id}"
            for what, array, digest in compared
            if digest and sha256(array) != digest
        ]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        damaged = [each for found in threads.map(damage, index.entries) for each in found]
    if damaged:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise DamagedStoreError(
            f"{path}: the store must hold the bytes that were written into it, got others for "
            f"{', '.join(damaged[:3])}{more}; check the disk, then remove the folder (`searcher doctor --fix` does) "
            "and prepare the data set again"
        )


def mark_checked(path: Path, identity: Identity) -> None:
    """Record that a store was compared with its digests, or just written, since the machine started.

    Nothing happens if the folder is read-only.

    Args:
        path: The store's folder.
        identity: The result of `identity_of` before the comparison.
    """
    boots = _read_marker(path)
    boots.pop(_boot(), None)
    boots = dict([*boots.items(), (_boot(), identity)][-_MAX_BOOTS:])
    partial = path / f"{_MARKER}.{os.getpid()}"
    with suppress(OSError):
        partial.write_text(json.dumps(boots))
        partial.replace(path / _MARKER)


def _is_checked(path: Path) -> bool:
    return _read_marker(path).get(_boot()) == identity_of(path)


def _read_marker(path: Path) -> dict[str, Identity]:
    try:
        boots = json.loads((path / _MARKER).read_bytes())
    except (OSError, ValueError):
        return {}
    return boots if isinstance(boots, dict) else {}


def _boot() -> str:
    """Return a name of the time since this machine started; of the day where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"day {int(time.time() // _DAY_S)}"


def _lock(path: Path) -> AbstractContextManager[object]:
    return FileLock(path / _LOCK) if os.access(path, os.W_OK) else nullcontext()
