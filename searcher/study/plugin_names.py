"""The plug-ins that a study file names, and those of its parents' files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from searcher.exceptions import TextFileError
from searcher.plugins import PluginError, load_plugins
from searcher.study.problems import Problems
from searcher.study.toml_text import TomlError, read_toml, shown
from searcher.text_files import read_text

__all__ = ["PLUGINS", "each_once", "load_named", "study_folder"]

PLUGINS = "plugins"
"""The key, which lies above all tables."""
_MAX_PLUGINS = 100
_MAX_BYTES = 1 << 20
_MAX_PARENTS = 100


def load_named(
    document: Mapping[str, Any], origin: str, problems: Problems, *, stored: bool
) -> tuple[str, ...]:
    """Import the plug-ins that a study file and its parents' files name, and return their sources for other processes.

    Args:
        document: The study file.
        origin: Path or name of the study file; relative paths are relative to its folder.
        problems: Receives the problems.
        stored: Whether the text comes from the database. Then a plug-in that is missing on this machine is skipped,
            because its parts may come from elsewhere, such as `--plugin`; using a missing part is an error later.
    """
    sources: list[str] = []
    for names, folder in _named(document, origin, problems):
        for name in names:
            try:
                sources = each_once(
                    sources, [plugin.source for plugin in load_plugins([name], folder=folder)]
                )
            except PluginError as error:
                if stored and not (folder / name).exists() and ("/" in name or name.endswith(".py")):
                    sources = each_once(sources, [str(folder / name)])
                    continue
                for problem in error.problems:
                    problems.add(PLUGINS, problem.removeprefix(f"{PLUGINS}: "))
    return tuple(sources)


def each_once(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the names of both lists without duplicates, in order of first occurrence."""
    return list(dict.fromkeys([*first, *second]))


def study_folder(origin: str) -> Path:
    """Return the folder to which paths in a study file are relative: its own, or the working folder without a file."""
    return Path(origin).parent if origin.endswith(".toml") and Path(origin).is_absolute() else Path.cwd()


def _named(document: Mapping[str, Any], origin: str, problems: Problems) -> list[tuple[Sequence[str], Path]]:
    """Return the names of a file behind those of its parents, with what they are relative to."""
    found: list[tuple[Sequence[str], Path]] = []
    for _ in range(_MAX_PARENTS):  # they may go in a circle, which is found out later
        names = document.get(PLUGINS, [])
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            problems.add(
                PLUGINS,
                f'must be a list of modules and files, got {shown(names)}; write plugins = ["./my_model.py"]',
            )
            return []
        if len(names) > _MAX_PLUGINS:
            problems.add(PLUGINS, f"must be at most {_MAX_PLUGINS}, got {len(names)}; make a package of them")
            return []
        found.insert(0, (names, study_folder(origin)))
        parent = document.get("parent")
        named = parent.get("study") if isinstance(parent, dict) else None
        if not isinstance(named, str) or not named.endswith(".toml"):
            break
        path = study_folder(origin) / named
        try:
            document = read_toml(read_text(path, where=named, what="a study", max_bytes=_MAX_BYTES))
        except (TextFileError, TomlError):  # said when the parent is looked for
            break
        origin = str(path)
    return found
