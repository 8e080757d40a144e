"""Letting go of what Ray Tune keeps of trials that have ended."""

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

__all__ = ["EndedTrials"]


class EndedTrials(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Ray Tune callback that frees the memory that Ray Tune uses for trials that have ended.

    Ray Tune (2.60) keeps three copies of a trial's configuration, its last result and averages of every metric, for
    restoring a run and for result tables. We use neither, because the database has everything, and a driver of
    thousands of trials would grow.
    """

    def __init__(self) -> None:
        self._ended: list[Trial] = []

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """Note the trial, to free its memory later: callbacks that are called after this one may still read it."""
        self._ended.append(trial)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """Note the trial, to free its memory later."""
        self._ended.append(trial)

    def on_step_end(self, **_: Any) -> None:
        """Free the memory of the noted trials."""
        while self._ended:
            trial = self._ended.pop()
            trial.config, trial.evaluated_params, trial._Trial__unresolved_config = {}, {}, {}
            kept = trial.run_metadata
            kept.last_result, kept.metric_analysis, kept.metric_n_steps = {}, {}, {}
            trial.invalidate_json_state()
