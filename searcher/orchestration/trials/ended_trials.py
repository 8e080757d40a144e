"""Letting go of what Ray Tune keeps of trials that have ended."""

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

__all__ = ["EndedTrials"]


class EndedTrials(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Empties what Ray Tune remembers of a trial once it has ended.

    Ray Tune (2.60) keeps three copies of its configuration, its last result and averages of every metric. It needs them
    to restore a run and for its result tables. We use neither, the database has it all, and a driver of thousands of
    trials would grow by them.
    """

    def __init__(self) -> None:
        self._ended: list[Trial] = []

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """Remember it: callbacks that are called after this one may still read it."""
        self._ended.append(trial)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """Remember it, for the same reason."""
        self._ended.append(trial)

    def on_step_end(self, **_: Any) -> None:
        """Empty those that were remembered."""
        while self._ended:
            trial = self._ended.pop()
            trial.config, trial.evaluated_params, trial._Trial__unresolved_config = {}, {}, {}
            kept = trial.run_metadata
            kept.last_result, kept.metric_analysis, kept.metric_n_steps = {}, {}, {}
            trial.invalidate_json_state()
