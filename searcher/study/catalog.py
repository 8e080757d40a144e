"""Finding study files: those shipped with the package, by name, and any other, by path."""

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from searcher.exceptions import StudyFileError, TextFileError, UnknownStudyError
from searcher.study.reader import parse_study
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.suggestions import nearest
from searcher.text_files import read_text

__all__ = ["load_study", "shipped_studies"]

_MAX_BYTES = 1 << 20
"""Most bytes of a study file; the shipped ones have about 3,000."""


def shipped_studies() -> list[str]:
    """Return the names of the studies that come with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("searcher.studies").iterdir()
        if entry.name.endswith(".toml")
    )


def load_study(name_or_path: str, overrides: Mapping[str, Value] | None = None) -> StudySpec:
    """Return a validated study: a shipped one by name, or one of the user's own by a path that ends in .toml.

    Raises:
        UnknownStudyError: There is neither a shipped study of that name nor such a file.
        StudyFileError: The file is not a valid study.
    """
    text, source = _read(name_or_path)
    is_file = name_or_path.endswith(".toml")
    origin = str(Path(name_or_path).absolute()) if is_file else name_or_path
    return parse_study(text, source=source, origin=origin, overrides=overrides)


def _read(name_or_path: str) -> tuple[str, str]:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        where = f"--study {path}"
        try:
            return read_text(path, where=where, what="a study", max_bytes=_MAX_BYTES), str(path)
        except TextFileError as error:
            is_there = os.path.lexists(path)
            raise StudyFileError([str(error)]) if is_there else UnknownStudyError(str(error)) from None
    names = shipped_studies()
    if name_or_path not in names:
        meant = nearest(name_or_path, names)
        remedy = (
            f"did you mean {meant}?"
            if meant
            else f"known: {', '.join(names)}; or give a file ending in .toml"
        )
        raise UnknownStudyError(f"--study {name_or_path}: must be a shipped study or a .toml file; {remedy}")
    resource = files("searcher.studies").joinpath(f"{name_or_path}.toml")
    return resource.read_text(encoding="utf-8"), f"studies/{name_or_path}.toml"
