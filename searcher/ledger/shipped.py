"""A study of the package that began before its file was changed by an upgrade."""

from searcher.ledger.tables import StudyRow
from searcher.study.catalog import shipped_studies
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

__all__ = ["as_it_began", "remark_on"]


def as_it_began(spec: StudySpec, row: StudyRow) -> StudySpec:
    """Return a shipped study as it was in the version of searcher that began it; another one as it is.

    Nobody edits the files of the package, so a change of one comes with an upgrade, and the study continues as before.

    Args:
        spec: The study as the package has it now, with what the command line sets.
        row: The study of that name in the database.

    Raises:
        StudyFileError: This version of searcher cannot read the file as it was.
    """
    is_shipped = spec.origin in shipped_studies() and row.spec_source == spec.origin
    if not is_shipped or spec.parent is not None or row.spec_text == spec.text:
        return spec
    return parse_study(
        row.spec_text, source=spec.source, origin=spec.origin, overrides=spec.overrides, stored=True
    )


def remark_on(spec: StudySpec) -> str:
    """Return what a person should know of a study that continues as it began."""
    return (
        f"{spec.name}: goes on as it began, since this version of searcher has another file of that name; to begin "
        "with the new one, add --set study.name=NAME"
    )
