"""Which trials go on after an epoch: Ray Tune's ASHA or a pruner of Optuna's, told of earlier launches' trials."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from searcher.parts import Part
from searcher.study.parts import PRUNERS
from searcher.study.spec import StudySpec

__all__ = ["asha", "build_scheduler", "none"]


def build_scheduler(spec: StudySpec, past_trials: Iterable[FrozenTrial]) -> TrialScheduler:
    """Return a new scheduler as the study file configures it: it decides which trials are pruned.

    Args:
        spec: The study.
        past_trials: Finished trials of earlier launches, whose values the new scheduler takes into account. Otherwise
            it would let every trial of a relaunch pass like the first.
    """
    num_epochs, pruner = spec.max_epochs, spec.pruner
    if pruner.grace_epochs >= num_epochs:
        return FIFOScheduler()
    scheduler = PRUNERS[pruner.name].made(
        grace_epochs=pruner.grace_epochs,
        reduction_factor=pruner.reduction_factor,
        max_epochs=num_epochs,
        mode="min" if spec.objective.direction == "minimize" else "max",
        options=pruner.options,
    )
    if isinstance(scheduler, BasePruner):
        scheduler = _OptunaPruning(scheduler, spec)
    if isinstance(scheduler, _ResumingASHA | _OptunaPruning):
        for trial in past_trials:
            scheduler.replay(trial)
    return scheduler


class _ResumingASHA(ASHAScheduler):  # type: ignore[misc]  # ray ships no types
    """ASHA that knows what trials did before it: those of earlier launches, and a retry's inherited epochs.

    Ray's would put a retry's first report into a rung that belongs to earlier epochs.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a new trial, with the epochs from which it resumes; these are not decided again."""
        super().on_trial_add(tune_controller, trial)
        for epoch, value in sorted(trial.config["job"].past_values.items()):
            self.on_trial_result(tune_controller, trial, {"epoch": epoch, "objective": value})

    def replay(self, trial: FrozenTrial) -> None:
        """Add a finished trial of an earlier launch."""
        job = SimpleNamespace(past_values=trial.intermediate_values)
        stand_in = SimpleNamespace(trial_id=f"past-{trial.number}", config={"job": job})
        self.on_trial_add(None, stand_in)
        self.on_trial_remove(None, stand_in)


class _OptunaPruning(FIFOScheduler):  # type: ignore[misc]
    """A pruner of Optuna's, asked after every epoch of every trial.

    It uses a study in memory that holds the trials' curves and nothing else, because the driver writes into the
    database at its own pace.
    """

    def __init__(self, pruner: BasePruner, spec: StudySpec) -> None:
        super().__init__()
        self._grace_epochs = spec.pruner.grace_epochs
        self._study = optuna.create_study(direction=spec.objective.direction, pruner=pruner)
        self._running: dict[str, optuna.Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a new trial, with the epochs from which it resumes; these are not decided again."""
        super().on_trial_add(tune_controller, trial)
        self._running[trial.trial_id] = self._study.ask()
        for epoch, value in sorted(trial.config["job"].past_values.items()):
            self._running[trial.trial_id].report(value, epoch)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record an epoch, and return whether the trial continues."""
        del tune_controller
        if "objective" not in result:
            return str(TrialScheduler.CONTINUE)
        asked = self._running[trial.trial_id]
        asked.report(result["objective"], result["epoch"])
        if result["epoch"] < self._grace_epochs or not asked.should_prune():
            return str(TrialScheduler.CONTINUE)
        self._end(trial, TrialState.PRUNED)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Record that a trial has finished."""
        super().on_trial_complete(tune_controller, trial, result)
        if "objective" in result and trial.trial_id in self._running:
            self._running[trial.trial_id].report(result["objective"], result["epoch"])
            self._end(trial, TrialState.COMPLETE, result["objective"])

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Record that a trial has failed."""
        super().on_trial_error(tune_controller, trial)
        self._end(trial, TrialState.FAIL)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Record that a trial was removed."""
        super().on_trial_remove(tune_controller, trial)
        self._end(trial, TrialState.FAIL)

    def replay(self, trial: FrozenTrial) -> None:
        """Add a finished trial of an earlier launch."""
        curve = {
            epoch: value for epoch, value in sorted(trial.intermediate_values.items()) if value is not None
        }
        is_complete = trial.state == TrialState.COMPLETE and bool(curve)
        if not curve:
            return
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
                value=[*curve.values()][-1] if is_complete else None,
                intermediate_values=curve,
            )
        )

    def _end(self, trial: Any, state: TrialState, value: float | None = None) -> None:
        asked = self._running.pop(trial.trial_id, None)
        if asked is None:
            return
        if value is not None and value != value:  # Optuna takes no NaN
            state, value = TrialState.FAIL, None
        self._study.tell(asked, value, state=state)


def _asha(mode: str, max_epochs: int, grace_epochs: int, reduction_factor: float) -> TrialScheduler:
    return _ResumingASHA(
        time_attr="epoch",
        metric="objective",
        mode=mode,
        max_t=max_epochs,
        grace_period=grace_epochs,
        reduction_factor=reduction_factor,
    )


asha: Part[TrialScheduler] = Part(_asha)
none: Part[TrialScheduler] = Part(lambda: FIFOScheduler())
