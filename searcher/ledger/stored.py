"""The study file that the database holds."""

from searcher.exceptions import StudyFileError
from searcher.ledger.tables import StudyRow
from searcher.study.plugin_names import PLUGINS, load_named
from searcher.study.problems import Problems
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec
from searcher.study.toml_text import TomlError, read_toml

__all__ = ["load_stored_plugins", "stored_spec"]


def load_stored_plugins(row: StudyRow) -> None:
    """Import the plug-ins that a study in the database uses, before its checkpoints are opened.

    Raises:
        StudyFileError: A plug-in cannot be imported.
    """
    problems = Problems(f"study {row.name}", ())
    try:
        document = read_toml(row.spec_text)
    except TomlError:  # of another version; who reads it says so
        return
    of_command = (row.overrides or {}).get(PLUGINS, [])
    for names in (document, {PLUGINS: of_command}):
        load_named(names, row.spec_source or "", problems, stored=True)
    if problems:
        raise StudyFileError(problems.lines)


def stored_spec(row: StudyRow) -> StudySpec:
    """Return a study from the database, with the settings of its last launch.

    The plug-ins that it names are imported. Databases before revision 0002 lack the values that the command line set.

    Raises:
        StudyFileError: The stored file is invalid for this version of searcher, or a plug-in that it names fails to
            import or is a module that is not installed. A plug-in's file that is missing here is skipped, unless the
            study uses one of its parts.
    """
    overrides = dict(row.overrides or {}) | {"study.name": row.name}
    return parse_study(
        row.spec_text,
        source=f"study {row.name}",
        origin=row.spec_source,
        overrides=overrides,
        stored=True,
    )
