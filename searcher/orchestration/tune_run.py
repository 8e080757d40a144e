"""One run of Ray Tune: what it is given, and what it is kept from doing."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from searcher.orchestration.cluster.node_watch import NodeWatch
from searcher.orchestration.cluster.resources import num_places
from searcher.orchestration.cluster.scratch import scratch_folder
from searcher.orchestration.ray_internals import actors_begin
from searcher.orchestration.trials.ended_trials import EndedTrials
from searcher.orchestration.trials.hang_watch import HangWatch
from searcher.orchestration.trials.lost_workers import each_loss_is_its_trials
from searcher.orchestration.trials.search import ErrorCallback, StudySearch
from searcher.orchestration.trials.trainable import TrialTrainable

__all__ = ["run_tune"]

_MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
"""Ray Tune's variable for how many trials may wait for an actor."""
_SNAPSHOT_EVERY_S = "TUNE_GLOBAL_CHECKPOINT_S"
"""Ray Tune's variable for the interval at which it saves the state of all trials, also in memory."""


def run_tune(
    search: StudySearch,
    scheduler: tune.schedulers.TrialScheduler,
    watch: NodeWatch,
    hang_watch: HangWatch,
    stop: threading.Event,
) -> None:
    """Run the trials with Ray Tune; the files that it writes itself go to a scratch folder.

    It uses `tune.run` and not `Tuner`, because the latter pickles its configuration, search algorithm included, to
    disk.

    Args:
        search: Search algorithm, which proposes trials and receives their results.
        scheduler: Scheduler, which stops weak trials.
        watch: Callback that watches the nodes.
        hang_watch: Callback that watches the workers.
        stop: Event that is set when the launch is to end.
    """
    with (
        _quiet_ray(),
        scratch_folder() as scratch,
        _variables_of_tune(num_places(watch.resources)),
        actors_begin(in_new_workers=watch.resources.gpus > 0),
        each_loss_is_its_trials(),
    ):
        tune.run(
            TrialTrainable,
            name="study",
            num_samples=-1,
            search_alg=search,
            scheduler=scheduler,
            stop=_StopAll(stop, search),
            resources_per_trial=watch.resources.to_ray(),
            reuse_actors=True,
            storage_path=str(scratch),
            trial_dirname_creator=_trial_dirname,
            raise_on_failed_trial=False,
            callbacks=[ErrorCallback(search), watch, hang_watch, EndedTrials()],
            verbose=0,
        )


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Keep Ray's own lines from the terminal meanwhile, and restore its log level afterwards."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _variables_of_tune(num_places: int) -> Iterator[None]:
    """Let Ray Tune start the actors of as many trials together as there is room for, and write no snapshots.

    By itself (2.60) it asks for one more when the last one's actor is up. A trial that waits for its own actor gets the
    next free one, and Ray Tune throws away the one that was starting. With trials shorter than an actor's start, most
    nodes of a cluster would never get one. Its snapshots are for restoring a run, which the database does. Who has set
    Ray Tune's variables is left to it.
    """
    wanted = {_MAX_PENDING: str(max(1, num_places)), _SNAPSHOT_EVERY_S: "inf"}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _trial_dirname(trial: Trial) -> str:
    """Return a short folder name; Ray's own holds all parameters."""
    return str(trial.trial_id)


class _StopAll(tune.Stopper):  # type: ignore[misc]  # ray ships no types
    """Ends the run when a person wants it to end, or when trial after trial fails."""

    def __init__(self, stop: threading.Event, search: StudySearch) -> None:
        self._stop = stop
        self._search = search

    def __call__(self, _trial_id: str, _result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        """Ray writes its stopper into a file of its own, which nobody reads: a harmless one goes there."""
        return (tune.stopper.NoopStopper, ())

    def stop_all(self) -> bool:
        """Return whether the run is to end."""
        return self._stop.is_set() or self._search.broken
