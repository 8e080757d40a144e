"""What a lab knows beforehand (`prior` of a searched parameter), for every sampler of Optuna's interface.

After PriorBand (Mallik et al. 2023, arXiv 2306.12370): a part of the proposals has values drawn around the priors, the
rest is the sampler's. Priors lose weight in two ways. Their part falls with the number of trials. And the best third of
the trials decides between the priors and the surroundings of the best trial: the farther the good values lie from the
priors, the less is drawn from them. That is decided for all priors together, then for each.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import truncnorm

from searcher.orchestration.trials.encoding import Encoding
from searcher.study.space import Choice, Parameter, SearchSpace, Value

__all__ = ["PriorSampler"]

Array = NDArray[np.float64]

_WIDTHS = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Standard deviation around the prior, in widths of the range on its scale."""
_ODDS = {"low": 2.0, "medium": 4.0, "high": 8.0}
"""How many times as likely the prior's choice is as another one."""
_HALF_AFTER = 10
"""Trials after which the part of proposals that is drawn from the priors is half of what it was at first."""
_LEAST_TOLD = 3
_BEST_SHARE = 3
"""Of so many trials, the best one speaks for or against a prior."""


class PriorSampler(BaseSampler):
    """A sampler that returns another sampler's proposals, some of their values replaced by values near the priors.

    The first trial of a study gets the priors themselves.

    Args:
        sampler: The other sampler.
        space: The search space, in which some parameters have a prior.
        seed: Seed of the random numbers.
    """

    def __init__(self, sampler: BaseSampler, space: SearchSpace, *, seed: int) -> None:
        self._sampler = sampler
        self._space = space
        self._encoding = Encoding(space)
        self._rng = np.random.default_rng(seed)
        self._drawn: tuple[int, dict[str, Value]] = (-1, {})
        self._beliefs = [
            (place, _Belief(parameter))
            for place, parameter in enumerate(space.parameters)
            if parameter.prior is not None
        ]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the other sampler's search space, and draw the values near the priors.

        See `optuna.samplers.BaseSampler.infer_relative_search_space`.
        """
        self._drawn = trial.number, self._draws(study)
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the other sampler's values, some of them replaced by the drawn ones.

        See `optuna.samplers.BaseSampler.sample_relative`.
        """
        found = dict(self._sampler.sample_relative(study, trial, search_space))
        return found | {name: value for name, value in self._of(trial).items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the drawn value of a parameter, or the other sampler's value if none was drawn.

        See `optuna.samplers.BaseSampler.sample_independent`.
        """
        drawn = self._of(trial)
        if param_name in drawn:
            return drawn[param_name]
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Call the other sampler's method; see `optuna.samplers.BaseSampler.before_trial`."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Call the other sampler's method; see `optuna.samplers.BaseSampler.after_trial`."""
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Call the other sampler's method; see `optuna.samplers.BaseSampler.reseed_rng`."""
        self._sampler.reseed_rng()

    def _of(self, trial: FrozenTrial) -> Mapping[str, Value]:
        number, drawn = self._drawn
        return drawn if number == trial.number else {}

    def _draws(self, study: Study) -> dict[str, Value]:
        """Return the values of a proposal that come from priors; none for one that is the sampler's alone."""
        trials = study.get_trials(deepcopy=False)
        point = np.full(len(self._space), math.nan)
        if not any(each.params for each in trials):
            for place, belief in self._beliefs:
                point[place] = belief.at
            return self._encoding.params(point)
        told = _ranked(trials, study.directions)
        if self._rng.random() >= _HALF_AFTER / (_HALF_AFTER + len(told)) / 2:
            return {}
        best = self._encoding.points([each.params for each in told[: max(1, len(told) // _BEST_SHARE)]])
        evidence = [belief.evidence(best[:, place]) for place, belief in self._beliefs]
        is_known = len(told) >= _LEAST_TOLD
        if is_known and self._rng.random() >= _trust(sum(evidence, np.zeros((2, len(best))))):
            return {}
        for (place, belief), about in zip(self._beliefs, evidence, strict=True):
            if not is_known or self._rng.random() < _trust(about):
                point[place] = belief.draw(self._rng)
        drawn = ~np.isnan(point)
        snapped = self._encoding.snapped(np.where(drawn, point, 0.0)[None])[0]
        return self._encoding.params(np.where(drawn, np.where(np.isnan(snapped), point, snapped), math.nan))


class _Belief:
    """The prior of one parameter, over its places: 0 .. 1 of a range, the index of a choice."""

    def __init__(self, parameter: Parameter) -> None:
        assert parameter.prior is not None
        self._count = len(parameter.domain.choices) if isinstance(parameter.domain, Choice) else 0
        self._width, self._odds = _WIDTHS[parameter.confidence], _ODDS[parameter.confidence]
        alone = Encoding(SearchSpace((Parameter(parameter.name, parameter.domain),)))
        self.at = float(alone.points([{parameter.name: parameter.prior}])[0, 0])

    def draw(self, rng: np.random.Generator) -> float:
        """Return a place."""
        if math.isnan(self.at):  # a choice that a narrowed space has not
            return math.nan
        if self._count:
            weights = np.where(np.arange(self._count) == self.at, self._odds, 1.0)
            return float(rng.choice(self._count, p=weights / weights.sum()))
        low, high = -self.at / self._width, (1.0 - self.at) / self._width
        return self.at + self._width * float(truncnorm.rvs(low, high, random_state=rng))

    def evidence(self, best: Array) -> Array:
        """Return the logarithms of the densities around the prior, and around the best trial, float[2, N].

        Args:
            best: Places of the best trials, the best first, float[N]; NaN for one that lacks the parameter, which says
                nothing.
        """
        has = ~np.isnan(best)
        found = np.zeros((2, len(best)))
        if has.any() and not math.isnan(self.at):
            for row, centre in enumerate((self.at, float(best[has][0]))):
                found[row, has] = np.log(self._density(centre, best[has]))
        return found

    def _density(self, centre: float, places: Array) -> Array:
        if self._count:
            weight = np.where(places == centre, self._odds, 1.0)
            return np.asarray(weight / (self._odds + self._count - 1))
        low, high = -centre / self._width, (1.0 - centre) / self._width
        return np.asarray(truncnorm.pdf(places, low, high, loc=centre, scale=self._width))


def _trust(evidence: Array) -> float:
    """Return the weight of a prior, 0 to 1: 1 where the best trials lie as near to it as to the best one.

    Args:
        evidence: As of `_Belief.evidence`, of one parameter or summed over several.
    """
    weights = np.arange(evidence.shape[1], 0, -1, dtype=float)
    prior, best = np.exp(evidence - evidence.max(initial=0.0)) @ weights
    return min(1.0, 2.0 * float(prior) / float(prior + best)) if best else 1.0


def _ranked(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """Return the trials with values, the best first: by the mean rank over the objectives."""
    told = [
        each
        for each in trials
        if each.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and each.values is not None
        and each.params
        and not any(map(math.isnan, each.values))
    ]
    if not told:
        return []
    signs = [-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in directions]
    costs = np.array([each.values for each in told]) * signs[: len(told[0].values)]
    ranks = np.argsort(np.argsort(costs, axis=0, kind="stable"), axis=0).mean(axis=1)
    return [told[num] for num in np.argsort(ranks, kind="stable")]
