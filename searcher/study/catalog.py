"""Finding study files: those shipped with the package, by name, and any other, by path."""

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from searcher.exceptions import StudyFileError, UnknownStudyError
from searcher.study.reader import parse_study
from searcher.study.space import Value
from searcher.study.spec import StudySpec

__all__ = ["load_study", "shipped_studies"]


def shipped_studies() -> list[str]:
    """Return the names of the studies that come with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("studies").iterdir()
        if entry.name.endswith(".toml")
    )


def load_study(name_or_path: str, overrides: Mapping[str, Value] | None = None) -> StudySpec:
    """Return a validated study, shipped (by name) or of the user's own (a path that ends in .toml).

    Raises:
        UnknownStudyError: Neither a shipped study nor a file.
        StudyFileError: The file is not a valid study.
    """
    text, source = _read(name_or_path)
    is_file = name_or_path.endswith(".toml")
    origin = str(Path(name_or_path).absolute()) if is_file else name_or_path
    return parse_study(text, source=source, origin=origin, overrides=overrides)


def _read(name_or_path: str) -> tuple[str, str]:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except FileNotFoundError as error:
            raise UnknownStudyError(f"--study {path}: the file must exist; check the path") from error
        except (OSError, UnicodeDecodeError) as error:
            raise StudyFileError([f"{path}: must be a readable UTF-8 text file: {error}"]) from error
    names = shipped_studies()
    if name_or_path not in names:
        close = difflib.get_close_matches(name_or_path, names, n=1, cutoff=0.5)
        remedy = (
            f"did you mean {close[0]}?"
            if close
            else f"known: {', '.join(names)}; or give a file ending in .toml"
        )
        raise UnknownStudyError(f"--study {name_or_path}: must be a shipped study or a .toml file; {remedy}")
    resource = files("studies").joinpath(f"{name_or_path}.toml")
    return resource.read_text(encoding="utf-8"), f"studies/{name_or_path}.toml"
