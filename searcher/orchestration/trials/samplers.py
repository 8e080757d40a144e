"""The samplers a study file can name."""

import warnings

import optuna

from searcher.study.spec import StudySpec

__all__ = ["build_sampler"]


def build_sampler(spec: StudySpec, *, num_trials: int) -> optuna.samplers.BaseSampler:
    """Return the study's sampler.

    Args:
        spec: The study.
        num_trials: Trials already in the study. The seed depends on it, so that a relaunch does not propose the
            first launch's random points again; Sobol points follow one sequence kept in the database instead.
    """
    seed, startup = spec.study.seed, spec.search.startup_trials
    own_seed = (seed * 1_000_003 + num_trials) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec.search.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=own_seed)
            case "qmc":
                independent = optuna.samplers.RandomSampler(seed=own_seed)
                return optuna.samplers.QMCSampler(
                    scramble=True, seed=seed, independent_sampler=independent, warn_independent_sampling=False
                )
            case "tpe":
                return optuna.samplers.TPESampler(
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    n_startup_trials=startup,
                    seed=own_seed,
                )
            case "gp":
                return optuna.samplers.GPSampler(
                    n_startup_trials=startup, seed=own_seed, warn_independent_sampling=False
                )
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    n_startup_trials=startup, seed=own_seed, warn_independent_sampling=False
                )
