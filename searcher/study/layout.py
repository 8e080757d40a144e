"""Where a study's files lie below the storage root, and that nothing lies elsewhere."""

from pathlib import Path

from searcher.exceptions import UserError

__all__ = ["ARTIFACTS", "LAUNCH_LOG", "STORAGE_MARK", "TRIAL_LOG", "inside", "trial_folder"]

ARTIFACTS = ".artifacts"
"""Folder of Optuna's artifact store, for all studies of a storage root; no study's name begins with a dot."""

TRIAL_LOG = "trial.log"
"""A worker's log, in its trial's folder."""
LAUNCH_LOG = "launch.log"
"""What the drivers of a study said, in the study's folder."""
STORAGE_MARK = "storage.mark"
"""By which a node knows that the study's folder is the driver's; new with every launch on a cluster."""


def trial_folder(study: str, number: int) -> str:
    """Return the path of a trial's folder, relative to the storage root."""
    return f"{study}/trial-{number:04d}"


def inside(storage_root: Path, relative: str) -> Path:
    """Return the absolute path of a file below the storage root, with links resolved.

    Raises:
        UserError: The file is elsewhere: the database, or a link in the folder, was tampered with.
    """
    path = (storage_root / relative).resolve()
    if not path.is_relative_to(storage_root.resolve()):
        raise UserError(
            f"--storage {storage_root}: every file must lie below it, got {relative}; "
            "a link leads elsewhere (give the folder itself as --storage), or the database was tampered with"
        )
    return path
