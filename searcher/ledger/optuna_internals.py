"""All that we use of Optuna beyond what it documents: the one place to look at when Optuna changes.

Written for Optuna 5.0. Every name here has a test of its own (`tests/searcher/ledger/test_optuna_internals.py`). It
explains the name's purpose and fails if a newer Optuna lacks the name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, _rdb
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "add_trial",
    "begun_trial",
    "id_of_study",
    "id_of_trial",
    "migrations_folder",
    "models",
    "revise_trial",
    "storage_of_study",
    "trial_times",
]


def id_of_study(study: optuna.Study) -> int:
    """Return the id of a study in Optuna's storage."""
    return study._study_id


def storage_of_study(study: optuna.Study) -> BaseStorage:
    """Return the storage that an Optuna study reads and writes; it keeps finished trials in memory."""
    return study._storage


def id_of_trial(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the id of a trial in Optuna's storage; `trial.number` is its number within the study."""
    return trial._trial_id


def trial_times() -> tuple[Any, Any]:
    """Return two columns of Optuna's table of trials: a trial's start and its end, in UTC without a zone.

    Optuna does not document them. Its documented columns, `datetime_start` and `datetime_complete`, give local time.
    """
    return models.TrialModel._datetime_start_utc, models.TrialModel._datetime_complete_utc


def migrations_folder() -> Path:
    """Return the folder with the migrations of Optuna's tables, named by their revision: `v3.2.0.a_.py`."""
    return Path(_rdb.__file__).parent / "alembic" / "versions"


def add_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Add a trial to a study in memory without copying the trial.

    Optuna copies every added trial, with the distribution of every parameter. That was most of the time of a relaunch's
    first proposal. The caller must not change the trial afterwards.
    """
    trial.__class__ = _SharedTrial
    study.add_trial(trial)


class _SharedTrial(FrozenTrial):
    def __deepcopy__(self, memo: Any) -> "_SharedTrial":
        return self


def begun_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """Return the `optuna.Trial` of a study's running trial, with which its values are reported."""
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def revise_trial(study: optuna.Study, number: int, value: float | None, notes: Mapping[str, Any]) -> None:
    """Change the value and user attributes of a finished trial of a study in memory.

    Optuna has no function for this, because it treats a trial's value as final. Samplers read the trials in its storage
    in memory, which are changed here.

    Args:
        study: A study in memory.
        number: Number of the trial.
        value: The new value; None to make the trial FAIL.
        notes: User attributes to set; others stay.
    """
    trial = study.get_trials(deepcopy=False)[number]
    trial.value = value
    if value is None:
        trial.state = TrialState.FAIL
    trial.user_attrs.update(notes)
