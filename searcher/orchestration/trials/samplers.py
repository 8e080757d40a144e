"""The samplers a study file can name."""

import math
import warnings

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from searcher.study.parts import SAMPLERS, Sampler
from searcher.study.space import SearchSpace
from searcher.study.spec import StudySpec

__all__ = ["build_sampler", "cmaes", "fast_gp", "gp", "qmc", "random", "tpe"]


def build_sampler(spec: StudySpec, *, num_trials: int, space: SearchSpace | None = None) -> BaseSampler:
    """Return a new sampler as the study file configures it.

    Args:
        spec: The study.
        num_trials: Number of trials already in the study. The seed depends on it, so that a relaunch does not propose
            the first launch's random points again. Sobol points continue one sequence in the database instead.
        space: Search space to sample from; None for the study's whole space.
    """
    seed, search = spec.study.seed, spec.search
    space = spec.space.widened() if space is None else space
    startup = max(1, math.ceil(len(space) / 2)) if search.startup_trials == "auto" else search.startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: BaseSampler = SAMPLERS[search.sampler].made(
            seed=(seed * 1_000_003 + num_trials) % 2**32,
            study_seed=seed,
            n_startup_trials=startup,
            space=space,
            options=search.options,
        )
    if any(each.prior is not None for each in space.parameters):
        from searcher.orchestration.trials.priors import PriorSampler  # scipy.stats takes a second to import

        made = PriorSampler(made, space, seed=(seed * 1_000_033 + num_trials) % 2**32)
    return made


def _qmc(seed: int, study_seed: int) -> BaseSampler:
    return QMCSampler(
        scramble=True,
        seed=study_seed,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
    )


def _tpe(seed: int, n_startup_trials: int) -> BaseSampler:
    return TPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=n_startup_trials, seed=seed
    )


def _gp(seed: int, n_startup_trials: int) -> BaseSampler:
    return GPSampler(n_startup_trials=n_startup_trials, seed=seed, warn_independent_sampling=False)


def _cmaes(seed: int, n_startup_trials: int) -> BaseSampler:
    return CmaEsSampler(n_startup_trials=n_startup_trials, seed=seed, warn_independent_sampling=False)


def _fast_gp(seed: int, n_startup_trials: int, space: SearchSpace) -> BaseSampler:
    from searcher.orchestration.trials.fast_gp import FastGPSampler  # scipy.stats takes a second to import

    return FastGPSampler(space, n_startup_trials=n_startup_trials, seed=seed)


random = Sampler(RandomSampler, several_objectives=True, stopped="ignored")
qmc = Sampler(_qmc, several_objectives=True, stopped="ignored")
tpe = Sampler(_tpe, several_objectives=True, stopped="as they are")
gp = Sampler(_gp, several_objectives=True)
cmaes = Sampler(_cmaes)
fast_gp = Sampler(_fast_gp, several_objectives=True)
