"""A study of the package that began before its file was changed by an upgrade."""

from searcher.ledger.tables import StudyRow
from searcher.study.catalog import shipped_studies
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

__all__ = ["as_it_began", "upgrade_remark"]


def as_it_began(spec: StudySpec, row: StudyRow) -> StudySpec:
    """Return a shipped study as its file was when the study began; any other study unchanged.

    Files in the package only change with an upgrade of searcher. The study continues with the settings that it began
    with.

    Args:
        spec: The study with the package's present file, and with the command line's values.
        row: The row of the study in our tables.

    Raises:
        StudyFileError: This version of searcher cannot read the earlier file.
    """
    is_shipped = spec.origin in shipped_studies() and row.spec_source == spec.origin
    if not is_shipped or spec.parent is not None or row.spec_text == spec.text:
        return spec
    return parse_study(
        row.spec_text, source=spec.source, origin=spec.origin, overrides=spec.overrides, stored=True
    )


def upgrade_remark(spec: StudySpec) -> str:
    """Return a remark for the user about a shipped study that continues with its earlier file."""
    return (
        f"{spec.name}: goes on as it began, since this version of searcher has another file of that name; to begin "
        "with the new one, add --set study.name=NAME"
    )
