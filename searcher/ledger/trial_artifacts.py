"""Files of a trial's folder as its artifacts, which Optuna's own readers and its dashboard find."""

import json
import mimetypes
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from optuna.artifacts import ArtifactMeta
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from searcher.atomic_files import link_or_copy
from searcher.ledger.optuna_internals import id_of_trial
from searcher.storage.mirror import fetch, push
from searcher.study.layout import ARTIFACTS, trial_folder

__all__ = ["ATTRIBUTE_PREFIX", "OTHER_MIMETYPE", "keep_artifacts"]

ATTRIBUTE_PREFIX = "artifacts:"
"""How the name of a trial's system attribute begins that describes an artifact. Optuna's own constant is private."""
OTHER_MIMETYPE = "application/octet-stream"
"""Of a file whose name says nothing, as with Optuna."""


def keep_artifacts(
    storage: BaseStorage, study: str, trial: FrozenTrial, names: Sequence[str], storage_root: Path
) -> None:
    """Copy files in a running trial's folder to Optuna's artifact store in the storage root, and record them.

    It does the same as `optuna.artifacts.upload_artifact`, with two differences. The identifier depends only on the
    file and its trial, so a repeated step finds its own file. And the file is written before its row, so the database
    names only files that exist.

    Args:
        storage: Optuna's storage on the study database.
        study: Name of the study.
        trial: The trial, from the database.
        names: Names of the files.
        storage_root: Folder of the storage root on this machine.

    Raises:
        OSError: A file could not be copied; those before it were.
        StorageError: The object store cannot be reached or used.
    """
    if not names:
        return
    folder = trial_folder(study, trial.number)
    (storage_root / ARTIFACTS).mkdir(exist_ok=True)
    for name in names:
        # With the time at which the trial began: another database may have a study of that name and the same root.
        artifact_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{folder}/{name} {trial.datetime_start}"))
        fetch(storage_root, f"{folder}/{name}")
        link_or_copy(storage_root / folder / name, storage_root / ARTIFACTS / artifact_id)
        push(storage_root, f"{ARTIFACTS}/{artifact_id}")
        mimetype = mimetypes.guess_type(name)[0] or OTHER_MIMETYPE
        about = ArtifactMeta(artifact_id=artifact_id, filename=name, mimetype=mimetype, encoding=None)
        storage.set_trial_system_attr(
            id_of_trial(trial), ATTRIBUTE_PREFIX + artifact_id, json.dumps(asdict(about))
        )
