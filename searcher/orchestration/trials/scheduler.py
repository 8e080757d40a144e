"""Which trials go on after an epoch: Ray Tune's ASHA, told of the trials of earlier launches."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from searcher.study.spec import StudySpec

__all__ = ["build_scheduler"]


def build_scheduler(spec: StudySpec, past_trials: Iterable[FrozenTrial]) -> TrialScheduler:
    """Return the study's scheduler.

    Args:
        spec: The study.
        past_trials: Finished trials of earlier launches. Their curves fill the rungs again, since a new
            scheduler would otherwise let every trial of a relaunch pass as if it were the first.
    """
    max_epochs = _max_epochs(spec)
    if spec.pruner.name == "none" or spec.pruner.grace_epochs >= max_epochs:
        return FIFOScheduler()
    scheduler = _ResumingASHA(
        time_attr="epoch",
        metric="objective",
        mode="min" if spec.objective.direction == "minimize" else "max",
        max_t=max_epochs,
        grace_period=spec.pruner.grace_epochs,
        reduction_factor=spec.pruner.reduction_factor,
    )
    for trial in past_trials:
        scheduler.replay(trial)
    return scheduler


class _ResumingASHA(ASHAScheduler):  # type: ignore[misc]  # ray ships no types
    """ASHA that knows what trials did before it: those of earlier launches, and a retry's inherited epochs.

    Ray's would put a retry's first report into a rung that belongs to earlier epochs.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a new trial, with the epochs that it goes on from; what they decide is decided already."""
        super().on_trial_add(tune_controller, trial)
        for epoch, value in sorted(trial.config["job"].past_values.items()):
            self.on_trial_result(tune_controller, trial, {"epoch": epoch, "objective": value})

    def replay(self, trial: FrozenTrial) -> None:
        """Take in a finished trial of an earlier launch."""
        job = SimpleNamespace(past_values=trial.intermediate_values)
        stand_in = SimpleNamespace(trial_id=f"past-{trial.number}", config={"job": job})
        self.on_trial_add(None, stand_in)
        self.on_trial_remove(None, stand_in)


def _max_epochs(spec: StudySpec) -> int:
    if "train.epochs" in spec.space:
        return max(int(edge) for edge in spec.space["train.epochs"].domain.widened().edges())
    return spec.trial_config({}).train.epochs
