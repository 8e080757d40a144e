"""A trial that no node can run is reported at once, instead of waiting forever."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from searcher.orchestration.cluster.resources import TrialResources, can_place

__all__ = ["NodeWatch"]

_LOOK_EVERY_S = 5.0
GIVE_UP_AFTER_S = 900.0
"""Long enough for a node to start again or a cloud to bring a new one."""


class NodeWatch(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Ray Tune callback that ends the run if no trial runs and no node could run one. Ray Tune would wait forever.

    Args:
        resources: Resources of one trial.
        end: Called with the reason to end the run.
        say: Receives a line when no node is left, and one when a node is back.
    """

    def __init__(
        self, resources: TrialResources, end: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self.resources = resources
        self._end = end
        self._say = say
        self._next_look = 0.0
        self._lost_since: float | None = None

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **_: Any) -> None:  # noqa: ARG002
        """Check the cluster every few seconds; see `ray.tune.Callback.on_step_end`."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        if any(trial.status == Trial.RUNNING for trial in trials) or can_place(self.resources):
            if self._lost_since is not None:
                self._say("a node that can run a trial is there again, going on")
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = now
            self._say(
                f"no node is left that offers {self.resources}; waiting {GIVE_UP_AFTER_S / 60:.0f} minutes for one"
            )
        elif now - self._lost_since > GIVE_UP_AFTER_S:
            self._end(
                f"no node offered {self.resources} for {GIVE_UP_AFTER_S / 60:.0f} minutes; fix the cluster"
            )
