"""A study's parents, and theirs."""

from pathlib import Path

from searcher.exceptions import UnknownStudyError, UserError
from searcher.ledger.database import Database
from searcher.study.catalog import load_study, shipped_studies
from searcher.study.spec import StudySpec

__all__ = ["chain", "parent_name", "parent_spec"]


def chain(spec: StudySpec, database: Database | None) -> list[StudySpec]:
    """Return a study and all studies from which it is derived, the oldest first, as their files are now.

    Args:
        spec: The study.
        database: The study database, with the settings of parents that were launched before; None without one.

    Raises:
        UserError: A parent is no study, or the parents form a circle.
    """
    found = [spec]
    while found[0].parent is not None:
        parent = parent_spec(found[0], database)
        found.insert(0, parent)
        names = [each.name for each in found]
        if parent.name in names[1:]:
            circle = " <- ".join(names[: names.index(parent.name, 1) + 1])
            raise UserError(
                f"{found[1].source}: parent.study must not lead back to where it began, got {circle}; "
                "give one of them another parent"
            )
    return found


def parent_spec(spec: StudySpec, database: Database | None) -> StudySpec:
    """Return the parent of a study: with the settings of its last launch, or else as its file is.

    Raises:
        UserError: The parent exists neither as a file nor in the database.
    """
    assert spec.parent is not None
    named = spec.parent.study
    where = named if not named.endswith(".toml") else str(Path(spec.origin).parent / named)
    known = database.study_names() if database is not None else []
    if named.endswith(".toml") or named in shipped_studies():
        file = load_study(where)
        if database is None or file.name not in known:
            return file
        row = database.study_row(file.name)
    elif database is not None and named in known:
        row = database.study_row(named)
    else:
        raise UnknownStudyError(
            f"{spec.source}: parent.study must be a shipped study, a .toml file or a study of the database, "
            f"got {named!r}; known: {', '.join(sorted({*shipped_studies(), *known}))}"
        )
    if row.spec_source is None:
        raise UserError(
            f"{spec.source}: parent.study must say how it was launched, got {named} of an older version of searcher; "
            "launch it again"
        )
    return load_study(row.spec_source, row.overrides)


def parent_name(spec: StudySpec) -> str:
    """Return the name of a study's parent in the database.

    Raises:
        UserError: The parent is a file that is no study.
    """
    assert spec.parent is not None
    named = spec.parent.study
    return load_study(str(Path(spec.origin).parent / named)).name if named.endswith(".toml") else named
