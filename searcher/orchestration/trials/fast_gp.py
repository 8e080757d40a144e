"""The sampler `fast-gp`: expected improvement of a Gaussian process that learns from every trial, whole or stopped.

Unlike Optuna's `gp` it takes the spread of a stopped trial's predicted value for noise. It knows the conditions of the
space, so it proposes all parameters together. A proposal takes about 20 ms, not a second.

A value without any relation to the others, the loss of a diverged trial say, says "bad" and not how bad: such values
are cut. Running trials count with their predicted values, and before the first rung with the value that the process
expects, so that no two look at the same place. Several objectives are weighed into one, with other weights for each
proposal.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr
from scipy.stats import qmc

from searcher.lineage.distributions import distribution
from searcher.orchestration.trials.encoding import Encoding
from searcher.orchestration.trials.known_trials import STD
from searcher.orchestration.trials.surrogate import Posterior, fitted, given
from searcher.study.space import SearchSpace

__all__ = ["FastGPSampler"]

Array = NDArray[np.float64]

_MOST_TRIALS = 250
"""The process explains as many trials at most: the best half of them, and the newest."""
_REFIT = 1.04
"""Hyperparameters are fitted again after so much more trials; always up to `_FEW` of them."""
_FEW = 40
_STEPS, _STEPS_MANY = 30, 12
"""Of a fit at most, of few trials and of many."""
_CUT = 10.0
"""Values lie at most so many times as far below the median as the lower quartile lies below the best. A lower factor
costs regret: once a search has settled, its values lie close together, and much of what it knows would be cut."""
_LARGEST_SPREAD = 3.0
"""Of a predicted value, in standard deviations of all values."""
_NUM_ANYWHERE = 512
_NUM_NEAR, _NEAR_WIDTHS = 40, (0.05, 0.15, 0.4)
"""Candidates around each of the best trials, and how far from it, in widths of a range."""
_NUM_FINER, _FINER_WIDTHS = 16, (0.1, 0.03, 0.01)
"""The same around the best candidates, round by round."""


class FastGPSampler(BaseSampler):
    """An Optuna sampler that proposes points by a Gaussian process; `fast-gp` in study files.

    Args:
        space: The search space.
        n_startup_trials: Number of trials from a scrambled Sobol sequence before the process is used.
        seed: Seed of everything random.
    """

    def __init__(self, space: SearchSpace, *, n_startup_trials: int, seed: int) -> None:
        self._encoding = Encoding(space)
        self._distributions = {each.name: distribution(each.domain) for each in space.parameters}
        self._num_startup = n_startup_trials
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._sobol = qmc.Sobol(max(1, len(space.parameters)), scramble=True, seed=seed)
        self._theta: Array | None = None
        self._num_fitted = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of all parameters, including those whose condition may not hold."""
        del study, trial
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a proposed value for every parameter whose conditions hold.

        See `optuna.samplers.BaseSampler.sample_relative`.
        """
        del search_space
        trials = study.get_trials(deepcopy=False)
        told = [
            each for each in trials if each.state == TrialState.COMPLETE and math.isfinite(each.values[0])
        ]
        if len(told) < self._num_startup or len(told) < 2:
            with np.errstate(all="ignore"):
                units = self._sobol.random(1)
            point = self._encoding.snapped(self._encoding.at(units[:, : len(self._distributions)]))[0]
        else:
            running = [
                each for each in trials if each.state == TrialState.RUNNING and each.number != trial.number
            ]
            point = self._proposed(study.directions, told, [each for each in running if each.params])
        return self._encoding.params(point)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value for a parameter that is not in the search space.

        See `optuna.samplers.BaseSampler.sample_independent`.
        """
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _proposed(
        self, directions: Sequence[StudyDirection], told: list[FrozenTrial], running: list[FrozenTrial]
    ) -> Array:
        """Return the point with the highest expected improvement, float[D]."""
        point, _, _ = self._searched(directions, told, running)
        return point

    def gain(self, study: Study) -> float | None:
        """Return the expected improvement by the best proposal; None if there are too few trials.

        It is in units of the objective.

        Args:
            study: A study with one objective.
        """
        told = [
            each
            for each in study.get_trials(deepcopy=False)
            if each.state == TrialState.COMPLETE and math.isfinite(each.values[0])
        ]
        if len(told) < max(2, self._num_startup):
            return None
        _, log_gain, scale = self._searched(study.directions, told, [])
        return math.exp(log_gain) * scale

    def _searched(
        self, directions: Sequence[StudyDirection], told: list[FrozenTrial], running: list[FrozenTrial]
    ) -> tuple[Array, float, float]:
        """Return the best point, the logarithm of its expected improvement, and what its unit is worth."""
        signs = [1.0 if each == StudyDirection.MAXIMIZE else -1.0 for each in directions]
        objectives = np.array([each.values for each in told]) * signs
        values = objectives[:, 0] if len(signs) == 1 else self._weighed(objectives)
        if len(told) > _MOST_TRIALS:
            kept = np.union1d(
                np.argsort(-values)[: _MOST_TRIALS // 2], np.arange(len(told))[-_MOST_TRIALS // 2 :]
            )
            told, values = [told[num] for num in kept], values[kept]
        spreads = np.array([float(each.user_attrs.get(STD, 0.0)) for each in told])
        values, spreads, scale = _standardised(values, spreads)
        encoding = self._encoding
        points = encoding.points([each.params for each in told])
        posterior = self._posterior(encoding.columns(points), values, spreads)
        means, _ = posterior.predict(posterior.points)
        incumbent = float(means.max())
        if running:
            waiting = encoding.columns(encoding.points([each.params for each in running]))
            expected, _ = posterior.predict(waiting)
            posterior = given(
                np.concatenate([posterior.points, waiting]),
                np.concatenate([values, expected]),
                np.concatenate([spreads, np.zeros(len(running))]),
                encoding.groups,
                posterior.theta,
            )
        return *self._best(posterior, incumbent, points[np.argsort(-means)[:5]]), scale

    def _weighed(self, objectives: Array) -> Array:
        """Return one value for several objectives, by new weights each time: ParEGO (Knowles 2006), float[N]."""
        finite = np.where(np.isfinite(objectives), objectives, np.nan)
        best, worst = np.nanmax(finite, axis=0), np.nanmin(finite, axis=0)
        costs = np.nan_to_num((best - finite) / np.maximum(best - worst, 1e-12), nan=1.0)
        weighed = costs * self._rng.dirichlet(np.ones(objectives.shape[1]))
        return np.asarray(-weighed.max(axis=1) - 0.05 * weighed.sum(axis=1))

    def _posterior(self, columns: Array, values: Array, spreads: Array) -> Posterior:
        """Return the process that explains the values; its hyperparameters are fitted now and then."""
        num = len(values)
        if self._theta is None or num <= _FEW or num > _REFIT * self._num_fitted:
            steps = _STEPS if num <= _FEW else _STEPS_MANY
            self._theta = fitted(
                columns, values, spreads, self._encoding.groups, self._theta, num_steps=steps
            )
            self._num_fitted = num
        return given(columns, values, spreads, self._encoding.groups, self._theta)

    def _best(self, posterior: Posterior, incumbent: float, best_trials: Array) -> tuple[Array, float]:
        encoding = self._encoding
        anywhere = encoding.at(self._rng.random((_NUM_ANYWHERE, len(encoding.parameters))))
        near = [self._near(best_trials, width, _NUM_NEAR) for width in _NEAR_WIDTHS]
        candidates = encoding.snapped(np.concatenate([anywhere, *near]))
        scores = self._scores(posterior, candidates, incumbent)
        for width in _FINER_WIDTHS:
            order = np.argsort(-scores)[:6]
            finer = encoding.snapped(self._near(candidates[order], width, _NUM_FINER))
            candidates = np.concatenate([candidates[order], finer])
            scores = np.concatenate([scores[order], self._scores(posterior, finer, incumbent)])
        best = int(np.argmax(scores))
        return np.asarray(candidates[best]), float(scores[best])

    def _near(self, points: Array, width: float, count: int) -> Array:
        """Return points, `count` for each, with some of their places moved; one that has none gets one at random."""
        moved = np.repeat(points, count, 0)
        anywhere = self._encoding.at(self._rng.random(moved.shape))
        moved = np.where(np.isnan(moved), anywhere, moved)
        is_moved = self._rng.random(moved.shape) < max(0.4, 1.5 / moved.shape[1])
        stepped = np.clip(moved + self._rng.normal(0.0, width, moved.shape), 0.0, 1.0)
        return np.where(is_moved, np.where(self._encoding.num_choices > 0, anywhere, stepped), moved)

    def _scores(self, posterior: Posterior, candidates: Array, incumbent: float) -> Array:
        mean, std = posterior.predict(self._encoding.columns(candidates))
        return _log_expected_improvement((mean - incumbent) / std) + np.log(std)


def _standardised(values: Array, spreads: Array) -> tuple[Array, Array, float]:
    """Return values, cut below, and their spreads in units of the values' standard deviation; and that one."""
    lower, middle = np.quantile(values, [0.25, 0.5])
    values = np.maximum(values, middle - _CUT * (values.max() - lower))
    scale = max(float(np.std(values)), 1e-12)
    return (values - values.mean()) / scale, np.minimum(spreads / scale, _LARGEST_SPREAD), scale


def _log_expected_improvement(z: Array) -> Array:
    """Return log(phi(z) + z Phi(z)): of a standard normal deviate, by how much it exceeds -z on average."""
    found = np.empty_like(z)
    near = z > -5.0
    found[near] = np.log(np.exp(-0.5 * z[near] ** 2) / math.sqrt(2 * math.pi) + z[near] * ndtr(z[near]))
    far = z[~near]  # where both terms nearly cancel: phi(z) / z^2 (1 - 3 / z^2 + 15 / z^4 ..)
    found[~near] = (
        -0.5 * far**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(-far) + np.log1p(-3 / far**2 + 15 / far**4)
    )
    return found
