"""Which trials go on after an epoch: Ray Tune's ASHA, told of the trials of earlier launches."""

from collections.abc import Iterable
from types import SimpleNamespace

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
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="objective",
        mode="min" if spec.objective.direction == "minimize" else "max",
        max_t=max_epochs,
        grace_period=spec.pruner.grace_epochs,
        reduction_factor=spec.pruner.reduction_factor,
    )
    for trial in past_trials:
        _replay(scheduler, trial)
    return scheduler


def _max_epochs(spec: StudySpec) -> int:
    if "train.epochs" in spec.space:
        return max(int(edge) for edge in spec.space["train.epochs"].domain.edges())
    return spec.trial_config({}).train.epochs


def _replay(scheduler: ASHAScheduler, trial: FrozenTrial) -> None:
    """Show the scheduler a finished trial through its public interface; it reads nothing but the trial's id."""
    stand_in = SimpleNamespace(trial_id=f"past-{trial.number}")
    scheduler.on_trial_add(None, stand_in)
    result: dict[str, float] = {}
    for epoch, value in sorted(trial.intermediate_values.items()):
        result = {"epoch": epoch, "objective": value}
        scheduler.on_trial_result(None, stand_in, result)
    scheduler.on_trial_complete(None, stand_in, result)
