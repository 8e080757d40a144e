"""Data sets in the cache folder that were decoded by half, or whose bytes are no longer those that were written."""

from collections.abc import Iterator
from pathlib import Path

from searcher.data_pipeline.store import Leftover, find_leftovers, find_unverifiable, remove_leftover
from searcher.ledger.doctor.finding import Finding

__all__ = ["bad_stores"]


def bad_stores(cache_dir: Path, *, fingerprint: str | None = None) -> Iterator[Finding]:
    """Yield a finding for each store that is damaged, unfinished, or without digests.

    Stores that a process is building now are left out.

    Args:
        cache_dir: Folder of all stores.
        fingerprint: Fingerprint of one data set; None for all.
    """
    for leftover in find_leftovers(cache_dir, fingerprint=fingerprint):
        yield _finding(leftover)
    for path in find_unverifiable(cache_dir, fingerprint=fingerprint):
        yield Finding(
            kind="store",
            study=None,
            where=str(path),
            what="an older version built it, without digests of the images",
            why="damage to its bytes would not be seen",
            remedy="remove the folder, and the next launch on these images builds one with digests",
            state="noted",
        )


def _finding(leftover: Leftover) -> Finding:
    return Finding(
        kind="store",
        study=None,
        where=str(leftover.path),
        what=leftover.problem.removeprefix(f"{leftover.path}: ").partition("; ")[0],
        why=f"it takes {leftover.num_bytes / 1e6:.1f} MB and cannot be used; the images themselves are untouched",
        remedy="--fix removes it; the next launch on these images builds it again",
        fix=lambda: "removed" if remove_leftover(leftover) else "whole by now, or being built: left alone",
    )
