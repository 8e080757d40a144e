"""The studies of a database from Python: their names and logs, stopping, narrowing, and keeping them in order."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.arguments import PathLike, check_count, database_address
from searcher.api.progress import ProgressLine, logger
from searcher.api.stopping import DEFAULT_TIMEOUT_S, StoppedLaunch, stop_launch
from searcher.api.upkeep import DEFAULT_KEEP, collect_studies, examine_studies
from searcher.api.words import in_python
from searcher.exceptions import UserError
from searcher.ledger.database import Database

if TYPE_CHECKING:
    from searcher.ledger.disposal import Freed
    from searcher.ledger.doctor import Finding

__all__ = ["doctor", "gc", "list_studies", "logs", "refine", "stop"]


@in_python
def list_studies(*, db: PathLike | None = None) -> list[str]:
    """Return the names of a database's studies; `searcher.load_study` gives each.

    Args:
        db: The study database, as for `launch`.

    Raises:
        UserError: The database cannot be opened.
    """
    with Database.open(database_address(db)) as database:
        return list(database.study_names())


@in_python
def logs(
    study: str, *, db: PathLike | None = None, trial: int | None = None, lines: int | None = None
) -> str:
    """Return what a study's launches, or one trial, have written down so far; the same as `searcher logs`.

    Args:
        study: The study's name.
        db: The study database, as for `launch`.
        trial: A trial's number; None for the launches' log.
        lines: How many lines of the end; None for all.

    Raises:
        UserError: There is no such study or trial, or no log of it on this machine.
    """
    from searcher.api.logs import read_log

    check_count("trial", trial, least=0)
    check_count("lines", lines)
    with Database.open(database_address(db)) as database:
        return read_log(database, study, trial=trial, last_lines=lines)


@in_python
def stop(study: str, *, db: PathLike | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> StoppedLaunch:
    """End a study's launch that another process runs, and wait for its end; the same as `searcher stop`.

    Launching again resumes it. A launch of this process is ended by Ctrl-C, or a notebook's stop button.

    Args:
        study: The study's name.
        db: The study database, as for `launch`.
        timeout_s: Seconds to wait at most. The request stays.

    Raises:
        UserError: No launch of it runs.
        SearcherError: It still runs after the timeout, or its driver was lost.
    """
    if (
        isinstance(timeout_s, bool)
        or not isinstance(timeout_s, int | float)
        or not 0 <= timeout_s < float("inf")
    ):
        raise UserError(f"timeout_s: must be a number of seconds, 0 or more, got {timeout_s!r}; leave it out")
    with Database.open(database_address(db)) as database:
        return stop_launch(database, study, timeout_s=timeout_s, asked=logger.info, problem=logger.warning)


@in_python
def refine(
    study: str, *, db: PathLike | None = None, write: PathLike | None = None, force: bool = False
) -> dict[str, Any]:
    """Return what a study's best trials leave of its ranges, and why; the same as `searcher refine --json`.

    Args:
        study: The study's name.
        db: The study database, as for `launch`.
        write: A .toml file for the narrowed study, to read, edit and launch; None for none.
        force: Whether a file that is there is replaced.

    Returns:
        `best`, the numbers of the trials that decide; `num_complete`; and `parameters`, each with `name`, `old`, `new`,
        `changed`, `reason` and `importance`, from 0 to 1, None where nobody can tell.

    Raises:
        UserError: There is no such study, it has no COMPLETE trial or searched nothing, or the file cannot be written.
    """
    from searcher.api.refining import check_study_file, narrowed_study, narrowing_record

    file = None if write is None else Path(write)
    check_study_file(file, force=force)
    with Database.open(database_address(db)) as database:
        return narrowing_record(narrowed_study(database, study, write=file))


@in_python
def gc(
    study: str | None = None, *, db: PathLike | None = None, keep: int = DEFAULT_KEEP, dry_run: bool = False
) -> "list[Freed]":
    """Remove checkpoints that nothing needs any more; the same as `searcher gc`.

    Args:
        study: One study's name; None for all of the database.
        db: The study database, as for `launch`.
        keep: Of how many of the best trials the best checkpoint stays.
        dry_run: Change nothing, and return what would go.

    Returns:
        By study: `removed`, files relative to the storage root; `freed_bytes`; `num_kept`, `kept_bytes`; `problems`,
        files that should have gone and did not, one line each. Studies that could not be collected are logged.

    Raises:
        UserError: There is no such study, its checkpoints are not on this machine, or the database is read-only.
    """
    check_count("keep", keep)
    with Database.open(database_address(db)) as database:
        freed, problems = collect_studies(database, study, keep_best=keep, dry_run=dry_run)
    for problem in problems:
        logger.warning("%s", problem)
    return freed


@in_python
def doctor(
    study: str | None = None, *, db: PathLike | None = None, fix: bool = False, progress: bool = False
) -> "list[Finding]":
    """Find what is wrong with the studies of a database, and fix it; the same as `searcher doctor`.

    Args:
        study: One study's name; None for all of the database.
        db: The study database, as for `launch`.
        fix: Fix what can be fixed. Never removes a result.
        progress: Show a bar on standard error.

    Returns:
        Findings with `where`, `what`, `why`, `remedy`, and `state`: `mendable`, `mended`, `left` or `noted`.

    Raises:
        UserError: There is no such study, or the database cannot be used.
    """
    with ProgressLine(progress).step("comparing checkpoints") as advance:
        return examine_studies(database_address(db), study, fix=fix, progress=advance)
