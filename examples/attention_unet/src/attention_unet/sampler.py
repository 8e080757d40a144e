"""Latin hypercube sampling (McKay et al. 1979, Technometrics 21) as a sampler of Optuna's interface."""

from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import Field

from searcher.parts import Section
from searcher.study.parts import register_sampler

__all__ = ["LatinHypercube", "LatinHypercubeOptions"]


class LatinHypercubeOptions(Section):
    """Settings of the sampler."""

    num_intervals: int = Field(default=20, ge=2, le=100_000)
    """Intervals that each parameter is divided into: as many trials as that visit each once."""


@register_sampler("latin_hypercube", options=LatinHypercubeOptions, several_objectives=True)
class LatinHypercube(BaseSampler):
    """Visits each interval of each parameter once in `num_intervals` trials, in an order drawn for the parameter.

    What a trial gets follows from its number alone, so that a launch which continues a study continues the plan.

    Args:
        study_seed: Decides about the orders and the places within the intervals.
        num_intervals: See `LatinHypercubeOptions`.
    """

    def __init__(self, *, study_seed: int, num_intervals: int) -> None:
        self._seed, self._num = study_seed, num_intervals

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no space: parameters are independent of one another."""
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values."""
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of one parameter."""
        del study
        turn, place = divmod(trial.number, self._num)
        rng = np.random.default_rng([self._seed, turn, *param_name.encode()])
        interval = rng.permutation(self._num)[place]
        return _at(param_distribution, (interval + rng.random(self._num)[place]) / self._num)


def _at(distribution: BaseDistribution, part: float) -> Any:
    """Return the value at a part of the way from the lowest to the highest, 0 to below 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(part * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        step = distribution.step
        if distribution.log:
            return min(high, int(np.exp(np.log(low) + part * np.log((high + 1) / low))))
        return int(low + step * int(part * ((high - low) // step + 1)))
    if distribution.step is not None:
        return float(low + distribution.step * int(part * (round((high - low) / distribution.step) + 1)))
    if distribution.log:
        return float(low * (high / low) ** part)
    return float(low + part * (high - low))
