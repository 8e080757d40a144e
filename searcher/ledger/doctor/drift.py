"""Whether the study could be launched again as its file is now."""

from collections.abc import Iterator

import sqlalchemy as sa

from searcher.exceptions import StudyFileError, UnknownStudyError
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding, State
from searcher.ledger.identity import differences
from searcher.ledger.shipped import as_it_began
from searcher.ledger.stored import stored_spec
from searcher.ledger.tables import LaunchRow
from searcher.study.catalog import load_study
from searcher.study.derive import as_stored

__all__ = ["drift"]

_WHY = "the next launch of this study is refused; its trials stay as they are"
_WHY_DONE = "the study is done; a launch with more trials would be refused"
_OTHER_NAME = "or begin another study with --set study.name=NAME"


def drift(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding for each difference between the study in the database, its stored text, and its file now."""
    stored: list[str] = []
    try:
        spec = stored_spec(examined.row)
    except StudyFileError as error:
        yield _finding(
            examined,
            where="its text in the database",
            what=f"cannot be read by this version of searcher: {error.problems[0]}",
            remedy=f"go on with searcher {_version(examined)}, {_OTHER_NAME}",
        )
    else:
        if examined.row.overrides is not None:  # else what the command line set is not known
            stored = differences(examined.row, spec, examined.row.data_fingerprint)
        if stored:
            yield _finding(
                examined,
                where="its text in the database",
                what=f"this version of searcher reads it differently: {'; '.join(stored)}",
                remedy=f"go on with searcher {_version(examined)}, {_OTHER_NAME}",
            )
    yield from _file_drift(examined, known=stored)


def _file_drift(examined: ExaminedStudy, known: list[str]) -> Iterator[Finding]:
    row = examined.row
    if row.spec_source is None:  # launched last before revision 0002
        return
    back = f"put it back (its text: `searcher status --study {row.name} --json`, spec_text)"
    try:
        spec = as_it_began(load_study(row.spec_source, row.overrides), row)
        if spec.is_open:  # what it takes from its parent, it took when it began
            spec = as_stored(spec, stored_spec(row))
    except UnknownStudyError:
        yield _finding(examined, where=row.spec_source, what="is gone, or not on this machine", remedy=back)
        return
    except StudyFileError as error:
        yield _finding(
            examined,
            where=row.spec_source,
            what=f"is no valid study any more: {error.problems[0]}",
            remedy=back,
        )
        return
    if spec.name != row.name:
        yield _finding(
            examined, where=row.spec_source, what=f"now describes another study, {spec.name}", remedy=back
        )
        return
    changed = [line for line in differences(row, spec, row.data_fingerprint) if line not in known]
    if changed:
        yield _finding(
            examined,
            where=row.spec_source,
            what=f"was changed: {'; '.join(changed)}",
            remedy=f"change it back, {_OTHER_NAME}",
        )


def _finding(examined: ExaminedStudy, *, where: str, what: str, remedy: str) -> Finding:
    state: State = "noted" if examined.is_done else "left"
    why = _WHY_DONE if examined.is_done else _WHY
    return Finding(
        kind="drift", study=examined.name, where=where, what=what, why=why, remedy=remedy, state=state
    )


def _version(examined: ExaminedStudy) -> str:
    """Return the version of searcher that launched the study last."""
    newest = sa.select(LaunchRow.versions).where(LaunchRow.study_id == examined.row.id)
    with examined.database.read() as session:
        versions = session.scalar(newest.order_by(LaunchRow.id.desc()).limit(1)) or {}
    return str(versions.get("gland-searcher", "of the version that launched it"))
