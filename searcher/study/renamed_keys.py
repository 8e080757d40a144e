"""Keys of study files that had another name in earlier versions, and reading them under the old one."""

import logging
from collections.abc import Mapping
from typing import Any

from searcher.study.problems import Problems
from searcher.study.toml_text import shown

__all__ = ["RENAMED", "RENAMED_IN_RANGES", "with_new_names"]

logger = logging.getLogger(__name__)

RENAMED = {"study.also": "study.secondary_objectives", "search.explore": "search.exploration"}
"""By old key. Databases and digests of studies keep the old names; see `StudySpec.identity`."""
RENAMED_IN_RANGES = {"whole": "original_range"}
"""Of the ranges and choices below `[space]`."""
_RANGE = {"low", "high", "choices"}

_logged: set[str] = set()


def with_new_names(
    document: dict[str, Any], overrides: Mapping[str, Any], problems: Problems, *, stored: bool
) -> dict[str, Any]:
    """Rename old keys in a study file, in place, and return the command line's values with new keys.

    One line in the log names all old keys, unless the study is read from the database.

    Args:
        document: Content of the study file.
        overrides: Values of the command line by dotted key.
        problems: Receives keys that are given under both names.
        stored: Whether the study comes from the database.
    """
    found: dict[str, str] = {}
    for old, new in RENAMED.items():
        (table, old_leaf), new_leaf = old.split("."), new.rpartition(".")[2]
        _rename(document.get(table), old_leaf, new_leaf, f"{table}.", found, problems)
    _rename_in_ranges(document.get("space"), "space.", found, problems)
    renamed: dict[str, Any] = {}
    for key, value in overrides.items():
        new = RENAMED.get(key, key)
        path, _, leaf = key.rpartition(".")
        if path.startswith("space.") and leaf in RENAMED_IN_RANGES and isinstance(value, list):
            new = f"{path}.{RENAMED_IN_RANGES[leaf]}"
        if key.startswith("space."):
            _rename_in_ranges({"": value}, f"{key}", found, problems)
        if new != key:
            found[f"--set: {leaf} of {path}"] = new
        renamed[new] = value
    if found and not stored:
        pairs = ", ".join(f"{old} is now called {new}" for old, new in found.items())
        _log_once(f"{problems.source}: {pairs}; the old name still works, write the new one")
    return renamed


def _rename(table: Any, old: str, new: str, prefix: str, found: dict[str, str], problems: Problems) -> None:
    if not isinstance(table, dict) or old not in table:
        return
    if new in table:
        problems.add(
            f"{prefix}{old}",
            f"must not be given beside {prefix}{new}, which is its new name, got {shown(table[old])}; remove it",
        )
        del table[old]
        return
    entries = {new if key == old else key: value for key, value in table.items()}
    table.clear()
    table.update(entries)
    found[f"{prefix}{old}"] = f"{prefix}{new}"


def _rename_in_ranges(table: Any, prefix: str, found: dict[str, str], problems: Problems) -> None:
    if not isinstance(table, dict):
        return
    if _RANGE & table.keys():
        for old, new in RENAMED_IN_RANGES.items():
            _rename(table, old, new, prefix, found, problems)
        return
    for key, value in table.items():
        _rename_in_ranges(value, f"{prefix}{key}." if key else f"{prefix}.", found, problems)


def _log_once(line: str) -> None:
    if line not in _logged:
        _logged.add(line)
        logger.warning("%s", line)
