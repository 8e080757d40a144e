"""Which trial of a study is the best."""

from collections.abc import Sequence

from searcher.ledger.records import StudyRecord, TrialRecord
from searcher.study.objectives import Objective, pareto_front
from searcher.study.rerank import Standing, standings
from searcher.study.spec import CANDIDATE, Candidate

__all__ = ["best_compromises", "best_trial", "rerank_standings", "runs_of"]


def best_trial(study: StudyRecord, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the COMPLETE trial with the best value, the earliest of equals; None if none is complete.

    Pruned trials do not compete: their value was measured after fewer epochs. In a rerank, the best run of the
    candidate with the best mean: a single lucky run does not win.
    """
    objective = Objective(study.objective)
    complete = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
    again = {int(trial.params[CANDIDATE]) for trial in complete if CANDIDATE in trial.params}
    if again:
        # For the order alone: what the search had said of them does not count.
        candidates = [Candidate(trial=number, value=0.0, params={}) for number in sorted(again)]
        winner = rerank_standings(study, trials, candidates)[0].trial
        complete = [trial for trial in complete if trial.params.get(CANDIDATE) == winner]
    best: TrialRecord | None = None
    for trial in complete:
        assert trial.value is not None
        if best is None or best.value is None or objective.better(trial.value, best.value):
            best = trial
    return best


def runs_of(best: TrialRecord, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return all COMPLETE runs of the best trial's candidate, by number; in a study that is no rerank, that trial.

    Args:
        best: As `best_trial` gives it.
        trials: All trials of the study.
    """
    if CANDIDATE not in best.params:
        return [best]
    same = [trial for trial in trials if trial.params.get(CANDIDATE) == best.params[CANDIDATE]]
    return [trial for trial in same if trial.state == "COMPLETE"]


def best_compromises(study: StudyRecord, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the COMPLETE trials that no other one beats in all objectives, the best of the first objective first."""
    complete = [
        trial for trial in trials if trial.state == "COMPLETE" and len(trial.values) == len(study.directions)
    ]
    front = [complete[n] for n in pareto_front([trial.values for trial in complete], study.directions)]
    sign = -1 if study.directions[0] == "maximize" else 1
    return sorted(front, key=lambda trial: (sign * trial.values[0], trial.number))


def rerank_standings(
    study: StudyRecord, trials: Sequence[TrialRecord], candidates: Sequence[Candidate]
) -> list[Standing]:
    """Return what each candidate of a rerank reached, the best mean first."""
    values: dict[int, list[float]] = {}
    for trial in trials:
        if trial.state == "COMPLETE" and trial.value is not None and CANDIDATE in trial.params:
            values.setdefault(int(trial.params[CANDIDATE]), []).append(trial.value)
    return standings(candidates, values, Objective(study.objective))
