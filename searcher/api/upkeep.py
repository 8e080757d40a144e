"""Making room among the checkpoints of a database's studies, and finding what is wrong with them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from searcher.exceptions import DatabaseError, UserError

if TYPE_CHECKING:
    from searcher.ledger.address import DatabaseAddress
    from searcher.ledger.database import Database
    from searcher.ledger.disposal import Freed
    from searcher.ledger.doctor import Finding

__all__ = ["DEFAULT_KEEP", "collect_studies", "examine_studies"]

DEFAULT_KEEP = 5
"""Of how many of the best trials `best` stays where nobody says."""


def collect_studies(
    database: "Database", study: str | None, *, keep_best: int, dry_run: bool
) -> "tuple[list[Freed], list[str]]":
    """Delete checkpoints that nothing needs any more, and return what was freed.

    Args:
        database: The study database.
        study: Name of one study; None for all.
        keep_best: Number of best trials whose best checkpoint is kept.
        dry_run: Whether to delete nothing.

    Returns:
        What was freed in each study, and the problems with studies or files, one line each.

    Raises:
        UserError: The database cannot be written, or the named study cannot be processed.
    """
    from searcher.ledger.retention import collect

    freed: list[Freed] = []
    problems: list[str] = []
    if not dry_run:
        database.check_writable()
    for name in [study] if study else database.study_names():
        try:
            freed.append(collect(database, name, keep_best=keep_best, dry_run=dry_run))
        except DatabaseError:
            raise
        except UserError as error:  # one study's problem keeps no other from being collected
            if study:
                raise
            problems.append(str(error))
    return freed, problems + [problem for each in freed for problem in each.problems]


def examine_studies(
    address: "DatabaseAddress", study: str | None, *, fix: bool, progress: Callable[[int, int], None]
) -> "list[Finding]":
    """Return what is wrong with the studies of a database, and fix it if asked.

    Args:
        address: Address of the database.
        study: Name of one study; None for all.
        fix: Whether to fix what can be fixed.
        progress: Called with the numbers of compared and of all checkpoints.

    Raises:
        UserError: There is no such study, or the database cannot be used.
    """
    from searcher.ledger.doctor import examine, open_database
    from searcher.storage.mirror import cache_dir

    database, findings = open_database(address, fix=fix)
    if database is None:
        return findings
    with database:
        return findings + examine(database, study=study, cache_dir=cache_dir(), fix=fix, progress=progress)
