"""The bundle that a study's trials begin from, as its file names it."""

import json
import re
from pathlib import Path
from typing import Any

from searcher.study.plugin_names import study_folder
from searcher.study.problems import Problems
from searcher.study.space import Value

__all__ = ["with_bundle"]

_KEY, _DIGEST = "warm_start.bundle", "warm_start.sha256"
_MAX_BYTES = 64 << 20


def with_bundle(
    document: dict[str, Any], origin: str, problems: Problems, *, stored: bool
) -> dict[str, Value]:
    """Set the absolute path of a study's bundle, and the digest of its first network's weights, in its document.

    Both are returned as values to store with the study, so that a bundle that changes later is refused.

    Args:
        document: Content of the study file; changed in place.
        origin: Path of the study file; a relative path is relative to its folder.
        problems: Receives the problems.
        stored: Whether the text comes from the database, which has both values already.
    """
    table = document.get("warm_start")
    named = table.get("bundle") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(named, str) or not named or stored:
        return {}
    folder = Path.cwd() if _KEY in problems.overrides else study_folder(origin)
    path = (folder / Path(named).expanduser()).resolve()
    digest = _digest_of(path)
    if digest is None:
        problems.add(
            _KEY, f"must be a folder that searcher export wrote, got {str(path)!r:.200}; correct the path"
        )
        return {}
    if table.get("sha256", digest) != digest:
        problems.add(
            _KEY,
            f"must have the weights that the study began from, {str(table['sha256'])[:12]}, got {digest[:12]}; put the "
            "bundle back, or begin another study",
        )
        return {}
    table["bundle"], table["sha256"] = str(path), digest
    return {_KEY: str(path), _DIGEST: digest}


def _digest_of(path: Path) -> str | None:
    """Return the SHA-256 of the weights of a bundle's first network; None where there is no bundle."""
    try:
        with (path / "bundle.json").open("rb") as file:
            manifest = json.loads(file.read(_MAX_BYTES))
        digest = manifest["files"][manifest["members"][0]["weights"]]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return digest if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) else None
