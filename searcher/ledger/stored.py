"""The study file that the database holds."""

from searcher.ledger.tables import StudyRow
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

__all__ = ["stored_spec"]


def stored_spec(row: StudyRow) -> StudySpec:
    """Return the study as its last launch had it. Before revision 0002, without what its command line set.

    Raises:
        StudyFileError: This version of searcher cannot read it.
    """
    overrides = dict(row.overrides or {}) | {"study.name": row.name}
    return parse_study(
        row.spec_text,
        source=f"study {row.name}",
        origin=row.spec_source,
        overrides=overrides,
        stored=True,
    )
