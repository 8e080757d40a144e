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
    """Return the names of all studies in a database. `searcher.load_study` returns a study by its name.

    Args:
        db: The study database, see `launch`.

    Raises:
        UserError: The database cannot be opened.
    """
    with Database.open(database_address(db)) as database:
        return list(database.study_names())


@in_python
def logs(
    study: str, *, db: PathLike | None = None, trial: int | None = None, lines: int | None = None
) -> str:
    """Return the log of a study's launches, or of one trial, as written so far; like `searcher logs`.

    Args:
        study: The study's name.
        db: The study database, see `launch`.
        trial: Number of the trial; None for the log of the launches.
        lines: Number of lines from the end; None for all.

    Raises:
        UserError: There is no such study or trial, or its log is not on this machine.
    """
    from searcher.api.logs import read_log

    check_count("trial", trial, least=0)
    check_count("lines", lines)
    with Database.open(database_address(db)) as database:
        return read_log(database, study, trial=trial, last_lines=lines)


@in_python
def stop(study: str, *, db: PathLike | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> StoppedLaunch:
    """End a study's launch that runs in another process, and wait until it has ended; like `searcher stop`.

    Launching the study again resumes it. A launch in this process is ended by Ctrl-C or a notebook's stop button.

    Args:
        study: The study's name.
        db: The study database, see `launch`.
        timeout_s: Longest time to wait, in seconds. The request to stop stays after that.

    Raises:
        UserError: No launch of the study is running.
        SearcherError: The launch still runs after the timeout, or its driver was lost.
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
    """Return the ranges that a study's best trials suggest for the next search, and why; like `searcher refine --json`.

    Args:
        study: The study's name.
        db: The study database, see `launch`.
        write: Path of a .toml file to write the narrowed study to; None to write none.
        force: Whether to replace an existing file.

    Returns:
        A dictionary. `best` has the numbers of the trials that decide; `num_complete`, how many are COMPLETE.
        `parameters` has for each `name`, `old`, `new`, `changed`, `reason` and `importance` (0 to 1; None if unknown).

    Raises:
        UserError: There is no such study, it has no COMPLETE trial, it searched no parameter, or the file cannot be
            written.
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
    """Delete checkpoints that nothing needs any more, and return what was freed; like `searcher gc`.

    Args:
        study: Name of one study; None for all in the database.
        db: The study database, see `launch`.
        keep: Number of best trials whose best checkpoint is kept.
        dry_run: Whether to delete nothing, and only return what would be deleted.

    Returns:
        One entry for each study: `removed`, files relative to the storage root; `freed_bytes`; `num_kept`,
        `kept_bytes`; `problems`, files that could not be deleted, one line each. Studies that could not be processed
        are logged.

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
    """Return what is wrong with the studies of a database, and fix it if asked; like `searcher doctor`.

    Args:
        study: Name of one study; None for all in the database.
        db: The study database, see `launch`.
        fix: Whether to fix what can be fixed. Results are never deleted.
        progress: Whether to show a progress bar on standard error.

    Returns:
        Findings with `where`, `what`, `why`, `remedy`, and `state`: `mendable`, `mended`, `left` or `noted`.

    Raises:
        UserError: There is no such study, or the database cannot be used.
    """
    with ProgressLine(progress).step("comparing checkpoints") as advance:
        return examine_studies(database_address(db), study, fix=fix, progress=advance)
