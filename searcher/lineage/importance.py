"""How much each parameter mattered in a search."""

from collections.abc import Sequence

import optuna

from searcher.lineage.distributions import distribution
from searcher.study.objectives import Direction
from searcher.study.refine import Tried
from searcher.study.space import SearchSpace

__all__ = ["importances"]

_LEAST_TRIALS = 8
_QUANTILE = 0.25
"""The quarter of trials that counts as good."""


def importances(space: SearchSpace, trials: Sequence[Tried], direction: Direction) -> dict[str, float]:
    """Return the importance of each parameter, 0 to 1; those of the parameters that all trials have add up to 1.

    The method is PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255), with the best quarter of the trials as good ones.
    A parameter that only some trials have is measured among those, together with the parameters that they all have. A
    parameter that fewer than 8 trials have is left out.

    Args:
        space: The space that was searched.
        trials: The trials; those without a value are ignored.
        direction: Direction of the objective.
    """
    shares: dict[str, float] = {}
    complete = [trial for trial in trials if trial.value is not None]
    for parameter in space.parameters:
        having = [trial for trial in complete if parameter.name in trial.params]
        if len(having) < _LEAST_TRIALS:
            continue
        common = [
            each
            for each in space.parameters
            if all(each.name in trial.params for trial in having)
            and len({trial.params[each.name] for trial in having}) > 1
        ]
        if parameter not in common:
            shares[parameter.name] = 0.0  # it never changed
            continue
        study = _study_of(SearchSpace(tuple(common)), having, direction)
        measured = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_QUANTILE),
            params=[each.name for each in common],
        )
        shares[parameter.name] = measured[parameter.name]
    return shares


def _study_of(space: SearchSpace, trials: Sequence[Tried], direction: Direction) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    distributions = {parameter.name: distribution(parameter.domain) for parameter in space.parameters}
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: trial.params[name] for name in distributions},
                distributions=distributions,
                value=trial.value,
            )
            for trial in trials
        ]
    )
    return study
