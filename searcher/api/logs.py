"""Logs of launches and trials: where they lie, and what is in them now."""

from pathlib import Path
from typing import TYPE_CHECKING

from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.ledger.watch import TrialEnd

__all__ = ["NO_LAUNCH_LOG", "log_file", "no_log", "read_log", "why_no_trial_log"]

NO_LAUNCH_LOG = "it was launched by a version without one, or the folder was moved"
"""Why a study that was launched has no log."""


def read_log(database: "Database", study: str, *, trial: int | None, last_lines: int | None) -> str:
    """Return the log of a study's launches, or of one trial, as written so far.

    Args:
        database: The study database.
        study: Name of the study.
        trial: Number of the trial; None for the log of the launches.
        last_lines: Number of lines from the end; None for all.

    Raises:
        UserError: There is no such study or trial, or its log is not on this machine.
    """
    from searcher.api.log_file import LogFile
    from searcher.ledger.watch import newest_launch, trial_end
    from searcher.study.layout import LAUNCH_LOG, TRIAL_LOG, trial_folder

    row = database.study_row(study)
    if trial is None:
        where, name = f"--study {study}", f"{study}/{LAUNCH_LOG}"
        why = "it never began" if newest_launch(database, study) is None else NO_LAUNCH_LOG
    else:
        end = trial_end(database, study, trial)
        if end is None:
            raise UserError(f"--trial {trial}: must be a trial of {study}; see its trials")
        where, name = f"--trial {trial}", f"{trial_folder(study, trial)}/{TRIAL_LOG}"
        why = why_no_trial_log(end)
    path = log_file(row.storage_root, name)
    if not path.is_file():
        raise no_log(where, path, why)
    with LogFile(path, last_lines=last_lines) as log:
        return log.read()


def log_file(storage_root: str, name: str) -> Path:
    """Return the path of a log on this machine, after downloading it if the storage root is an object store.

    Args:
        storage_root: Folder or URI of the storage root, as stored in the database.
        name: Path of the log relative to the storage root.

    Raises:
        UserError: The object store cannot be used.
    """
    from searcher.storage.mirror import fetch, local_root, storage_at
    from searcher.study.layout import inside

    root = local_root(storage_root)
    path = inside(root, name)
    if storage_at(storage_root).is_remote and not fetch(root, name):
        path.unlink(missing_ok=True)  # of a study of that name that was there before
    return path


def no_log(where: str, path: Path, why: str) -> UserError:
    """Return the error to raise if a log does not exist.

    Args:
        where: The option that asked for the log, with its value.
        path: Path at which the log should be.
        why: The reason, and what to do.
    """
    return UserError(f"{where}: must have a log, got none at {path}; {why}")


def why_no_trial_log(end: "TrialEnd | None") -> str:
    """Return the reason why a trial has no log, as a phrase for a message."""
    if end is None or end.state == "WAITING":
        return "it is WAITING, no worker has begun it"
    if end.state == "RUNNING":
        return "it is RUNNING, and its worker has not begun to write"
    reason = f", {end.reason}" if end.reason else ""
    return f"it is {end.state}{reason}: no worker began it, or the folder was moved"
