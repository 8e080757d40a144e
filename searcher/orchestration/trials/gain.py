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
    """Return the expected improvement by another trial, in units of the objective; None if there are too few trials.

    It is that of the best proposal of the Gaussian process of `fast-gp`, whichever sampler the study has. A stopped
    trial counts with its predicted final value.

    Args:
        spec: The study, which must have one objective.
        trials: The study's trials; unfinished ones are ignored.
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
