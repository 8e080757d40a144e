"""Data sets in the cache folder that were decoded by half."""

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.store import Leftover, find_leftovers, remove_leftover
from searcher.ledger.doctor.finding import Finding

__all__ = ["half_built_stores"]


def half_built_stores(cache_dir: Path, *, fingerprint: str | None = None) -> Iterator[Finding]:
    """Find stores that cannot be opened and that nobody is building.

    Args:
        cache_dir: Folder of all stores.
        fingerprint: The data set to look for; None looks at all.
    """
    for leftover in find_leftovers(cache_dir):
        if fingerprint in (None, leftover.fingerprint):
            yield _finding(leftover)


def _finding(leftover: Leftover) -> Finding:
    return Finding(
        kind="store",
        study=None,
        where=str(leftover.path),
        what=leftover.problem.removeprefix(f"{leftover.path}: "),
        why=f"it takes {leftover.num_bytes / 1e6:.1f} MB and cannot be used; the images themselves are untouched",
        remedy="--fix removes it; the next launch on these images builds it again",
        mend=lambda: "removed" if remove_leftover(leftover) else "whole by now, or being built: left alone",
    )
