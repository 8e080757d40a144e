"""What another trial is expected to bring (`search.stop_if_gain_below`)."""

from collections.abc import Iterable
from typing import cast

from optuna.trial import FrozenTrial, TrialState

from searcher.orchestration.trials.fast_gp import FastGPSampler
from searcher.orchestration.trials.known_trials import KnownTrials
from searcher.study.spec import StudySpec

__all__ = ["LEAST_TRIALS", "expected_gain"]

LEAST_TRIALS = 10
"""Of fewer trials a process has no notion of how values differ."""


def expected_gain(spec: StudySpec, trials: Iterable[FrozenTrial]) -> float | None:
    """Return by how much another trial is expected to improve the objective, in its units; None for too few trials.

    It is the expected improvement of the best proposal, by the Gaussian process of `fast-gp`, with any study's
    sampler. A stopped trial counts with its predicted final value.

    Args:
        spec: The study, with one objective.
        trials: Its trials; those that have not ended do not count.
    """
    box = spec.space.narrow()
    sampler = FastGPSampler(box, n_startup_trials=LEAST_TRIALS, seed=spec.study.seed)
    known = KnownTrials(
        box,
        sampler,
        stopped="predicted",
        directions=spec.directions,
        num_epochs=spec.max_epochs,
        grace_epochs=spec.pruner.grace_epochs,
    )
    for trial in trials:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and box.contains(trial.params):
            known.add(
                trial.params,
                trial.state,
                trial.values or (),
                cast("dict[int, float | None]", trial.intermediate_values),
            )
    known.revise()
    return sampler.gain(known.study)
