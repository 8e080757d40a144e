"""More epochs for a study that is finished: its best trials are continued from their checkpoints.

A COMPLETE trial is not changed. A new trial continues it: like a retry, it takes the trial's parameters, and its epochs
up to its best checkpoint. The new trial does not count towards the budget.
"""

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import StudyConflictError
from searcher.ledger.database import Database
from searcher.ledger.records import TrialRecord
from searcher.ledger.tables import StudyRow
from searcher.ledger.watch import frozen_trials
from searcher.study.objectives import Objective
from searcher.study.spec import StudySpec

__all__ = [
    "CONTINUED",
    "CONTINUES",
    "EPOCHS",
    "check_more_epochs",
    "has_checkpoint",
    "is_raised",
    "to_continue",
]

CONTINUES = "continues"
"""Note of a trial: the number of the one that it continues to more epochs."""
CONTINUED = "continued"
"""Attribute of the study in Optuna's tables: by number of epochs, the trials that were chosen to go on to them."""
EPOCHS = "train.epochs"
_PART = 5
"""One of this many COMPLETE trials is continued, as ASHA keeps a fraction at each rung."""


def is_raised(row: StudyRow, spec: StudySpec) -> bool:
    """Return whether a study file sets more epochs than the study in the database; both must set a fixed number.

    Args:
        row: The study in the database.
        spec: The study, as its file defines it now.
    """
    old, new = row.identity.get(EPOCHS), spec.identity().get(EPOCHS)
    return isinstance(old, int) and isinstance(new, int) and new > old


def to_continue(trials: Sequence[FrozenTrial], objective: Objective, num_epochs: int) -> list[int]:
    """Return the numbers of the trials to train further: the best fifth of the COMPLETE ones, best first.

    Args:
        trials: The study's trials. Only those count that trained all their epochs, fewer than `num_epochs`.
        objective: The objective by which the trials are ranked.
        num_epochs: The new number of epochs of a trial.
    """
    short = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.user_attrs.get("stop_reason") == "epochs"
        and 0 < max(trial.intermediate_values, default=0) < num_epochs
        and not any(each.user_attrs.get("retry_of") == trial.number for each in trials)
    ]
    ranked = sorted(short, key=lambda trial: (objective.cost(trial.values[0]), trial.number))
    return [trial.number for trial in ranked[: math.ceil(len(ranked) / _PART)]]


def check_more_epochs(database: Database, spec: StudySpec) -> None:
    """Check that the trials of a study can be continued to more epochs. Changes nothing.

    Raises:
        StudyConflictError: The study is not finished, it trains candidates again, or the checkpoints of its best trials
            were removed.
    """
    where = f"--epochs {spec.max_epochs}"
    study = database.study(spec.name)
    if spec.parent is not None and spec.parent.how == "rerank":
        raise StudyConflictError(
            f"{where}: must stay what it was for a rerank, whose runs are compared, got more; begin another one with "
            "--set study.name=NAME"
        )
    has_ended = study.last_launch is not None and study.last_launch.outcome == "finished"
    if not has_ended and study.num_done < study.budget:
        raise StudyConflictError(
            f"{where}: must be given to a finished study, got {study.num_done} of {study.budget} trials done; launch "
            "as before until it is finished, or under another name with --set study.name=NAME"
        )
    best = to_continue(frozen_trials(database, spec.name), spec.objective, spec.max_epochs)
    if not any(has_checkpoint(each) for each in database.trials(spec.name) if each.number in best):
        named = ", ".join(map(str, best)) or "no trial that trained all its epochs"
        raise StudyConflictError(
            f"{where}: must have the checkpoints of the best trials to go on from, got none of {named}: they were "
            "removed or never written; begin another study with --set study.name=NAME"
        )


def has_checkpoint(trial: TrialRecord) -> bool:
    """Return whether a trial has a usable checkpoint, according to the database.

    Args:
        trial: The trial.
    """
    return any(not each.is_removed and each.problem is None for each in trial.checkpoints.values())
