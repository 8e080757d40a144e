"""A launch: open the study, mend what the last driver left, search, write down how it ended."""

import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from searcher.orchestration.cluster import (
    TrialResources,
    ray_cluster,
    trial_resources,
)  # before ray: see there

from optuna.trial import FrozenTrial, TrialState  # isort: skip
from ray import tune  # isort: skip
from ray.tune.error import TuneError  # isort: skip
from ray.tune.experiment import Trial  # isort: skip

from data_pipeline.store import Store
from searcher.exceptions import SearcherError
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.samplers import build_sampler
from searcher.orchestration.scheduler import build_scheduler
from searcher.orchestration.search import ErrorCallback, StudySearch
from searcher.orchestration.trainable import TrialTrainable
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest

__all__ = ["LaunchResult", "launch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended."""

    outcome: str
    """`finished`, `interrupted` or `failed`."""
    num_done: int
    """Trials of the budget that are done, over all launches."""
    budget: int
    problem: str | None = None
    """Why it failed."""


def launch(
    spec: StudySpec,
    *,
    database: Database,
    data: DataRequest,
    store: Store,
    storage_root: Path,
    listener: StudyListener,
    address: str | None = None,
) -> LaunchResult:
    """Run a study until its budget is used, or until it is interrupted; every launch continues it.

    Args:
        spec: The study.
        database: Open, with tables.
        data: The data set, for the workers.
        store: The data set's store on this node.
        storage_root: Folder of all studies' checkpoints and logs, the same on every node.
        listener: Hears of the progress.
        address: A running Ray cluster; None starts one for this launch.

    Raises:
        StudyConflictError: The study is another one than the database has, or another driver runs it.
        UserError: The cluster cannot be reached or can never place a trial.
    """
    data_source = data.folder or "synthetic glands"
    StudyLedger.register(
        database,
        spec,
        data_source=data_source,
        data_fingerprint=store.fingerprint,
        storage_root=storage_root,
    )
    with Lease.acquire(database, spec.name) as lease:
        ledger = _open_ledger(database, spec, listener)
        ledger.begin_launch(data_source=data_source, storage_root=storage_root)
        problem = None
        try:
            if ledger.num_done() < spec.study.trials:
                with ray_cluster(address), _stop_on_signals(listener) as stop:
                    resources = trial_resources(spec.resources)
                    search = StudySearch(
                        ledger,
                        data=data,
                        data_fingerprint=store.fingerprint,
                        storage_root=storage_root,
                        num_threads=max(1, int(spec.resources.cpus)),
                        listener=listener,
                        stop=stop,
                    )
                    lease.on_lost(stop.set)
                    _run_tune(search, build_scheduler(spec, _finished(ledger)), resources, stop)
                    problem = search.problem
        except TuneError as error:  # its text is a whole traceback, whose last line says what it was
            problem = str(error).strip().rpartition("\n")[2]
            raise SearcherError(
                f"--study {spec.name}: the search broke off: {problem}; launch again to go on"
            ) from error
        except Exception as error:
            problem = type(error).__name__
            raise
        finally:  # also when a second Ctrl-C breaks off: no trial stays RUNNING, all can go on
            if not lease.is_lost:
                ledger.reconcile("interrupted: the launch ended before the trial did", counts=False)
            num_done = ledger.num_done()
            outcome = "finished" if num_done >= spec.study.trials else "failed" if problem else "interrupted"
            lease.ends_as(outcome)
    return LaunchResult(outcome, num_done, spec.study.trials, problem)


def _open_ledger(database: Database, spec: StudySpec, listener: StudyListener) -> StudyLedger:
    """Return the study's ledger with nothing left RUNNING and the known-good points queued."""
    ledger = StudyLedger(database, spec)
    num_trials = len(ledger.trials())
    ledger.optuna_study.sampler = build_sampler(spec, num_trials=num_trials)
    left = ledger.reconcile("its driver ended without a word")
    if left:
        numbers = ", ".join(map(str, left))
        listener.said(
            f"a former launch left trial {numbers} running; now FAIL, and queued again where sensible"
        )
    ledger.enqueue(spec.enqueue)
    complete = ledger.trials(TrialState.COMPLETE)
    best = ledger.optuna_study.best_value if complete else None
    listener.study_opened(budget=spec.study.trials, num_done=ledger.num_done(), best=best)
    return ledger


def _finished(ledger: StudyLedger) -> list[FrozenTrial]:
    return ledger.trials(TrialState.COMPLETE, TrialState.PRUNED)


def _run_tune(
    search: StudySearch,
    scheduler: tune.schedulers.TrialScheduler,
    resources: TrialResources,
    stop: threading.Event,
) -> None:
    """Let Ray Tune run the trials; all that it writes itself goes to a scratch folder.

    `tune.run` and not `Tuner`: the latter pickles its configuration, search algorithm included, to disk.
    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as scratch:
        tune.run(
            TrialTrainable,
            name="study",
            num_samples=-1,
            search_alg=search,
            scheduler=scheduler,
            stop=_StopAll(stop, search),
            resources_per_trial=resources.to_ray(),
            reuse_actors=True,
            storage_path=scratch,
            trial_dirname_creator=_trial_dirname,
            raise_on_failed_trial=False,
            callbacks=[ErrorCallback(search)],
            verbose=0,
        )


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


@contextmanager
def _stop_on_signals(listener: StudyListener) -> Iterator[threading.Event]:
    """Set the event on the first SIGINT or SIGTERM; raise KeyboardInterrupt on the second."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        listener.said(f"{signal.Signals(number).name}: stopping after this step; again to stop at once")

    before: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for stopping in (signal.SIGINT, signal.SIGTERM):
            before[stopping] = signal.signal(stopping, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
