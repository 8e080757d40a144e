"""A checkpoint's record and the bytes on disk. The record identifies the bytes; the file may have any name in the
folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from searcher.ledger.records import CheckpointRecord
from searcher.storage.mirror import fetch, storage_of
from searcher.storage.protocol import ObjectFacts
from searcher.study.layout import inside

__all__ = ["damage_of", "find_checkpoint", "listed_damage"]


def find_checkpoint(storage_root: Path, record: CheckpointRecord) -> Path | None:
    """Return the file with a recorded checkpoint's bytes, None if there is none.

    The record's own name is tried first, then the other files of its folder: a worker that was stopped between writing
    a checkpoint and reporting it has renamed the recorded file. In the mirror of an object store, a missing file is
    downloaded.

    Args:
        storage_root: Folder of the storage root on this machine.
        record: The checkpoint's record, with its digest.

    Raises:
        UserError: The record names a file outside the storage root.
        StorageError: The object store cannot be reached or used.
    """
    named = inside(storage_root, record.uri)
    beside = sorted(path for path in named.parent.glob("*.pt") if path != named)
    for path in (named, *beside):
        if _sha256(path, num_bytes=record.num_bytes) == record.sha256:
            return path
    if storage_of(storage_root).is_remote and fetch(storage_root, record.uri, sha256=record.sha256):
        return named
    return None


def damage_of(storage_root: Path, record: CheckpointRecord) -> str | None:
    """Return what is wrong with a recorded checkpoint's file, as a phrase; None if the file is intact.

    Raises:
        UserError: The record names a file outside the storage root.
    """
    if find_checkpoint(storage_root, record) is not None:
        return None
    if (storage := storage_of(storage_root)).is_remote:
        return listed_damage(storage.list(str(Path(record.uri).parent)), record) or "its bytes are others"
    named = inside(storage_root, record.uri)
    if not named.is_file():
        return "missing"
    num_bytes = named.stat().st_size
    if num_bytes != record.num_bytes:
        return f"{num_bytes} bytes, recorded {record.num_bytes}"
    return f"sha256 is {_sha256(named)[:12]}…, recorded {record.sha256[:12]}…"


def listed_damage(listing: Mapping[str, ObjectFacts], record: CheckpointRecord) -> str | None:
    """Return the difference between a record and an object store's listing, as a phrase; None for none."""
    facts = listing.get(record.uri)
    if facts is None:
        return "missing"
    if facts.num_bytes != record.num_bytes:
        return f"{facts.num_bytes} bytes, recorded {record.num_bytes}"
    return None


def _sha256(path: Path, *, num_bytes: int | None = None) -> str:
    """Return a file's digest. It is empty if the file has another size, which is checked first, or cannot be read."""
    try:
        if num_bytes is not None and path.stat().st_size != num_bytes:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
