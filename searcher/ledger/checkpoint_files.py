"""A checkpoint's record and the bytes on disk: the record says which bytes count, wherever in the folder they are."""

import hashlib
from pathlib import Path

from searcher.ledger.records import CheckpointRecord
from searcher.study.layout import inside

__all__ = ["damage_of", "find_checkpoint"]


def find_checkpoint(storage_root: Path, record: CheckpointRecord) -> Path | None:
    """Return the file with a record's bytes, None if there is none.

    It is looked for under the record's own name first, then beside it: a worker that was stopped between writing
    a checkpoint and reporting it has moved the recorded one to another name of the same folder.

    Raises:
        UserError: The record names a file outside the storage root.
    """
    named = inside(storage_root, record.uri)
    beside = sorted(path for path in named.parent.glob("*.pt") if path != named)
    for path in (named, *beside):
        if _sha256(path, num_bytes=record.num_bytes) == record.sha256:
            return path
    return None


def damage_of(storage_root: Path, record: CheckpointRecord) -> str | None:
    """Return what is wrong with a record's file, None if its bytes are there.

    Raises:
        UserError: The record names a file outside the storage root.
    """
    if find_checkpoint(storage_root, record) is not None:
        return None
    named = inside(storage_root, record.uri)
    if not named.is_file():
        return "missing"
    num_bytes = named.stat().st_size
    if num_bytes != record.num_bytes:
        return f"{num_bytes} bytes, recorded {record.num_bytes}"
    return f"sha256 is {_sha256(named)[:12]}…, recorded {record.sha256[:12]}…"


def _sha256(path: Path, *, num_bytes: int | None = None) -> str:
    """Return a file's digest; empty if it cannot be read or, without reading it, if its size is another."""
    try:
        if num_bytes is not None and path.stat().st_size != num_bytes:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
