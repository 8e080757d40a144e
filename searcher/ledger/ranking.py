"""Which trial of a study is the best."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from searcher.exceptions import UserError
from searcher.ledger.checkpoint_files import find_checkpoint
from searcher.ledger.records import ResultRecord, StudyRecord, TrialRecord
from searcher.storage.mirror import local_root, storage_at
from searcher.storage.object_store import below
from searcher.study.layout import inside
from searcher.study.objectives import Objective, pareto_front
from searcher.study.rerank import CANDIDATE, Standing, ranking, standings

if TYPE_CHECKING:
    from searcher.study.spec import Candidate

__all__ = [
    "best_checkpoint",
    "best_compromises",
    "best_location",
    "best_trial",
    "rerank_standings",
    "runs_of",
    "values_by_candidate",
]


_Result = TypeVar("_Result", bound=ResultRecord)


def best_trial(study: StudyRecord, trials: Sequence[_Result]) -> _Result | None:
    """Return the COMPLETE trial with the best value, the earliest of equal ones; None if no trial is COMPLETE.

    Pruned trials do not compete: their value was measured after fewer epochs. In a rerank, it is the best run of the
    candidate with the best mean, so that a single lucky run does not win.
    """
    objective = Objective(study.objective)
    complete = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
    again = values_by_candidate((trial.params, trial.value) for trial in complete)
    if again:
        winner = ranking(again, objective)[0]
        complete = [trial for trial in complete if trial.params.get(CANDIDATE) == winner]
    return min(complete, key=lambda trial: (objective.cost(trial.value or 0.0), trial.number), default=None)


def best_location(study: StudyRecord, trial: TrialRecord) -> str | None:
    """Return the recorded path or URI of a trial's best checkpoint; None if it was never written or was deleted.

    Raises:
        UserError: The path lies outside the storage root; a URI is not checked.
    """
    record = trial.checkpoints.get("best")
    if record is None or record.is_removed:
        return None
    if storage_at(study.storage_root).is_remote:
        return below(study.storage_root, record.uri)
    return str(inside(Path(study.storage_root), record.uri))


def best_checkpoint(study: StudyRecord, trial: TrialRecord) -> Path | None:
    """Return the file of a trial's best checkpoint on this machine; None if it was never written or was deleted.

    Raises:
        UserError: The file is outside the storage root, or cannot be downloaded from the object store.
    """
    location = best_location(study, trial)
    if location is None or not storage_at(study.storage_root).is_remote:
        return None if location is None else Path(location)
    record = trial.checkpoints["best"]
    path = find_checkpoint(local_root(study.storage_root), record)
    if path is None:
        raise UserError(
            f"{location}: must be the checkpoint with sha256 {record.sha256[:12]}, got none with it; restore it, "
            "or name another trial"
        )
    return path


def values_by_candidate(
    runs: Iterable[tuple[Mapping[str, Any], float | None]],
) -> dict[int, list[float]]:
    """Return the values of a rerank's runs by candidate; empty for a study that is no rerank.

    Args:
        runs: Parameters and value of each COMPLETE trial.
    """
    values: dict[int, list[float]] = {}
    for params, value in runs:
        if CANDIDATE in params and value is not None:
            values.setdefault(int(params[CANDIDATE]), []).append(value)
    return values


def runs_of(best: ResultRecord, results: Sequence[ResultRecord]) -> list[int]:
    """Return the numbers of all COMPLETE runs of the best trial's candidate; without a rerank, the best trial's own.

    Args:
        best: The result of `best_trial`.
        results: All results of the study.
    """
    if CANDIDATE not in best.params:
        return [best.number]
    return [each.number for each in results if each.params.get(CANDIDATE) == best.params[CANDIDATE]]


def best_compromises(study: StudyRecord, trials: Sequence[_Result]) -> list[_Result]:
    """Return the COMPLETE trials that no other trial beats in all objectives, ordered by the first objective."""
    complete = [
        trial for trial in trials if trial.state == "COMPLETE" and len(trial.values) == len(study.directions)
    ]
    front = [complete[n] for n in pareto_front([trial.values for trial in complete], study.directions)]
    objective = Objective(study.objective)
    return sorted(front, key=lambda trial: (objective.cost(trial.values[0]), trial.number))


def rerank_standings(
    study: StudyRecord, trials: Sequence[ResultRecord], candidates: "Sequence[Candidate]"
) -> list[Standing]:
    """Return the result of each candidate of a rerank, the best mean first.

    Args:
        study: The rerank study.
        trials: Its trials, in any state.
        candidates: The parent's trials that the rerank trains again.
    """
    values = values_by_candidate((trial.params, trial.value) for trial in trials if trial.state == "COMPLETE")
    return standings(candidates, values, Objective(study.objective))
