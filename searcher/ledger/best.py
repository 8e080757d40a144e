"""Which trial of a study is the best."""

from collections.abc import Sequence

from searcher.ledger.records import StudyRecord, TrialRecord
from searcher.study.objectives import Objective

__all__ = ["best_trial"]


def best_trial(study: StudyRecord, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the COMPLETE trial with the best value, the earliest of equals; None if none is complete.

    Pruned trials do not compete: their value was measured after fewer epochs.
    """
    objective = Objective(study.objective)
    best: TrialRecord | None = None
    for trial in trials:
        if trial.state != "COMPLETE" or trial.value is None:
            continue
        if best is None or best.value is None or objective.better(trial.value, best.value):
            best = trial
    return best
