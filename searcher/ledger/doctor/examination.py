"""The doctor's examination: open the database, check every study, fix what may be fixed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from searcher.exceptions import DatabaseError, StudyConflictError
from searcher.ledger import engine as engines
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.database import Database
from searcher.ledger.doctor.damaged_checkpoints import checkpoints
from searcher.ledger.doctor.drift import drift
from searcher.ledger.doctor.drivers import living_driver, lost_launches, orphaned_trials
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding
from searcher.ledger.doctor.lineage import optunas_half, parent
from searcher.ledger.doctor.stores import bad_stores
from searcher.ledger.doctor.stray_files import foreign_studies, half_written, unknown_trials
from searcher.ledger.lease import Lease
from searcher.ledger.migrations import check_revision
from searcher.ledger.tables import StudyRow

__all__ = ["examine", "open_database"]


def open_database(address: DatabaseAddress | str, *, fix: bool) -> tuple[Database | None, list[Finding]]:
    """Return an existing database, upgraded if it is old and `fix` is set, and findings about it.

    The database is None if it is old and `fix` is not set.

    Args:
        address: Address of the database.
        fix: Whether to upgrade an old database.

    Raises:
        DatabaseError: The database cannot be reached or used, or is of a newer version.
    """
    try:
        database = Database.open(address)
        if fix:
            database.check_writable()
        return database, []
    except DatabaseError as error:
        if not _is_older(address):
            raise
        where, _, what = str(error).partition(": ")
        finding = Finding(
            kind="database",
            study=None,
            where=where,
            what=what.partition("; ")[0],
            why="this version cannot read it, so nothing else was looked at",
            remedy="--fix upgrades it in place; so does the next launch",
            fix=lambda: "upgraded",
        )
    if not fix:
        return None, [finding]
    database = Database.open(address, create=True)
    finding.why = "this version could not read it"
    finding.apply()
    return database, [finding]


def examine(
    database: Database,
    *,
    study: str | None = None,
    cache_dir: Path,
    fix: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Return what is wrong with the studies of a database; with `fix`, after fixing what can be fixed.

    Args:
        database: The study database.
        study: Name of one study; None for all.
        cache_dir: Folder of the data stores.
        fix: Whether to fix what can be fixed.
        progress: Called with (checkpoints compared, checkpoints in all) of the study being examined.

    Raises:
        UnknownStudyError: There is no such study.
    """
    names = database.study_names() if study is None else [study]
    findings: list[Finding] = []
    for name in names:
        findings += _examine_study(database, name, fix=fix, progress=progress)
    if study is None:
        findings += foreign_studies(database)
    fingerprint = None if study is None else database.study_row(study).data_fingerprint
    stores = list(bad_stores(cache_dir, fingerprint=fingerprint))
    if fix:
        for finding in stores:
            finding.apply()
    return findings + stores


def _examine_study(
    database: Database, name: str, *, fix: bool, progress: Callable[[int, int], None] | None
) -> list[Finding]:
    examined = ExaminedStudy.read(database, name)
    findings = list(_checks(examined, progress))
    if examined.driver is not None:
        for finding in findings:
            finding.postpone("when its driver has ended the launch: --fix")
    elif fix and any(finding.fix for finding in findings):
        _fix(database, name, findings)
    return findings


def _checks(examined: ExaminedStudy, progress: Callable[[int, int], None] | None) -> Iterator[Finding]:
    yield from living_driver(examined)
    yield from lost_launches(examined)
    yield from optunas_half(examined)
    yield from orphaned_trials(examined)
    yield from checkpoints(examined, progress)
    yield from drift(examined)
    yield from parent(examined)
    yield from unknown_trials(examined)
    yield from half_written(examined)


def _fix(database: Database, name: str, findings: list[Finding]) -> None:
    """Fix under the lease: no driver can begin meanwhile. Taking the lease also ends lost launches."""
    try:
        lease = Lease.acquire(database, name)
    except StudyConflictError as error:
        for finding in findings:
            finding.postpone(str(error))
        return
    with lease:
        for finding in findings:
            finding.apply()
        lease.ends_as("mended")


def _is_older(address: DatabaseAddress | str) -> bool:
    """Return whether a database that does not open holds studies of an older revision."""
    engine = engines.connect(engines.parse_url(address), create=False)
    try:
        if not sa.inspect(engine).has_table(StudyRow.__tablename__):
            return False
        try:
            check_revision(engine, where="", may_upgrade=False)
        except DatabaseError:
            check_revision(engine, where="", may_upgrade=True)  # raises where it is newer
            return True
        return False
    finally:
        engine.dispose()
