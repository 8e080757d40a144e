"""A launch: open the study, mend what the last driver left, search, write down how it ended."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.experiment import Trial

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import Store
from searcher.exceptions import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseReplacedError,
    SearchBrokeOffError,
    SearcherError,
    StudyConflictError,
)
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.patience import Patience
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.lineage.imports import parents_trials
from searcher.lineage.resolve import check_beginning
from searcher.orchestration.cluster.code_digest import code_digest
from searcher.orchestration.cluster.gpu_probe import check_gpu_share
from searcher.orchestration.cluster.node_arrival import resources_once_there
from searcher.orchestration.cluster.node_probe import check_nodes, mark_storage
from searcher.orchestration.cluster.node_watch import NodeWatch
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import (
    TrialResources,
    num_concurrent,
    num_places,
    trial_resources,
)
from searcher.orchestration.cluster.scratch import scratch_folder
from searcher.orchestration.jobs.submission import current_job
from searcher.orchestration.launch_log import LaunchLog
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.mlflow_mirror import MlflowMirror
from searcher.orchestration.preflight import check_disk, check_weights
from searcher.orchestration.signals import Stop, stop_on_signals
from searcher.orchestration.trials.advisor import Advisor
from searcher.orchestration.trials.ended_trials import EndedTrials
from searcher.orchestration.trials.hang_watch import HangWatch
from searcher.orchestration.trials.lost_workers import cause_of, each_loss_is_its_trials
from searcher.orchestration.trials.samplers import build_sampler
from searcher.orchestration.trials.scheduler import build_scheduler
from searcher.orchestration.trials.search import ErrorCallback, StudySearch
from searcher.orchestration.trials.trainable import TrialTrainable
from searcher.orchestration.trials.trial_place import AWAY_LIMIT_S
from searcher.plugins import plugin_sources
from searcher.storage.mirror import origin_of, root_text
from searcher.storage.objects import ObjectStore
from searcher.study.layout import LAUNCH_LOG
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest
from searcher.training.pixels import pixels_of

__all__ = ["LaunchResult", "launch"]

logger = logging.getLogger(__name__)

_MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
"""Ray Tune's variable for how many trials may wait for an actor."""
_SNAPSHOT_EVERY_S = "TUNE_GLOBAL_CHECKPOINT_S"
"""Ray Tune's variable for how often it writes down, and keeps in memory, all that it knows of all trials."""


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
    database: DatabaseAddress | str,
    data: DataRequest,
    store: Store,
    storage_root: Path,
    listener: StudyListener,
    address: str | None = None,
    command: str = "",
    remarks: Sequence[str] = (),
) -> LaunchResult:
    """Run a study until its budget is used, or until it is interrupted; every launch continues it.

    What can be refused is refused before the database is made or changed.

    Args:
        spec: The study.
        database: The study database, or the text that says where it lies; made where it is missing.
        data: The data set, for the workers.
        store: The data set's store on this node.
        storage_root: Folder of all studies' checkpoints and logs, the same on every node; or this machine's mirror of
            the object store that is.
        listener: Hears of the progress.
        address: A running Ray cluster; None starts one for this launch.
        command: What a person typed to launch, for the study's note.
        remarks: What a person was told of the data, for the launch's log.

    Raises:
        StudyConflictError: The study is another one than the database has, or another driver runs it.
        DatabaseError: The database cannot be used.
        UserError: The cluster cannot be reached or can never place a trial, a node of it lacks the data or the
            storage folder, the disk is too small, or a trial's part of a GPU; pretrained weights cannot be had, or
            the checkpoint that trials begin from is not whole.
        SearcherError: The search broke off.
    """
    plugin_sources()  # what no worker can import is refused before anything begins
    study = Registration(
        spec=spec,
        data_source=data.folder or SyntheticGlands.name,
        data_fingerprint=store.fingerprint,
        storage_root=storage_root,
        normalised_since=_normalised_since(spec, store),
    )
    remaining = Patience(listener.said, threading.Event())(lambda: _look(database, study))
    if remaining and address is None:  # each node of a cluster fetches its own, and this may be none of them
        check_weights(spec)
    origin = origin_of(storage_root)
    log = _launch_log(spec.name, storage_root, listener)
    with log, ExitStack() as cluster:
        resources = None
        if remaining:
            cluster.enter_context(ray_cluster(address))
            if address is None:
                resources = trial_resources(spec.resources)
            else:
                resources = resources_once_there(spec.resources, listener.said)
            if origin is None:
                check_disk(
                    spec,
                    storage_root,
                    num_remaining=remaining,
                    num_concurrent=num_concurrent(spec.resources, resources),
                )
            if address is not None:
                check_nodes(
                    resources,
                    storage_root=storage_root,
                    data=data,
                    fingerprint=store.fingerprint,
                    plugins=plugin_sources(),
                    say=listener.said,
                )
            check_gpu_share(spec, resources, data=data, fingerprint=store.fingerprint, say=listener.said)
        if origin is not None:
            origin.patience_s = AWAY_LIMIT_S
        with stop_on_signals(log) as stop, ExitStack() as held:
            patiently = Patience(log.said, stop)
            opened = held.enter_context(patiently(lambda: Database.open(database, create=True)))
            patiently(lambda: study.register(opened))
            with patiently(lambda: Lease.acquire(opened, spec.name, job=current_job())) as lease:
                lease.on_lost(lambda: _stop(stop, log, str(lease.problem)))
                lease.on_stop(
                    lambda: _stop(stop, log, "asked to stop by `searcher stop`; stopping after this step")
                )
                patience = Patience(log.said, stop, before_again=lease.check)
                patience(lambda: study.begin_launch(opened))
                ledger = patience(lambda: StudyLedger(opened, spec, patience=patience))
                launch = _Launch(ledger, lease, cluster, log, stop, is_joined=address is not None)
                return launch.run(
                    data=data,
                    store=store,
                    study=study,
                    resources=resources,
                    command=command,
                    remarks=remarks,
                )


def _normalised_since(spec: StudySpec, store: Store) -> str:
    """Return why images are normalised by percentiles, if that is left to the data and so decided."""
    if "data.normalisation" in spec.space:
        return ""
    facts = pixels_of(spec.trial_config({}), store)
    return facts.reason if facts.normalisation.kind == "percentile" else ""


def _launch_log(study: str, storage_root: Path, listener: StudyListener) -> LaunchLog:
    if origin_of(storage_root) is None:
        return LaunchLog(storage_root / study / LAUNCH_LOG, listener)
    # Beside the mirror's copy, which whoever reads the log here replaces; and without patience: it is but a log.
    return LaunchLog(
        storage_root / f".{study}.{LAUNCH_LOG}",
        listener,
        origin=ObjectStore(root_text(storage_root)),
        name=f"{study}/{LAUNCH_LOG}",
    )


def _look(database: DatabaseAddress | str, study: Registration) -> int:
    """Refuse what the database as it is refuses; return how many trials remain. Changes nothing."""
    try:
        opened = Database.open(database)
    except DatabaseAwayError:  # locked, by another launch that makes its tables say
        raise
    except (
        DatabaseError
    ):  # not there yet, or of an older revision; or unusable, which opening to write will say
        study.check(None)
        _check_beginning(study, None)
        return study.spec.study.trials
    with opened:
        study.check(opened)
        remaining = study.spec.study.trials
        if study.spec.name in opened.study_names():
            Lease.refuse_if_held(opened, study.spec.name)
            remaining = max(0, remaining - opened.study(study.spec.name).num_done)
        if remaining:
            _check_beginning(study, opened)
        return remaining


def _check_beginning(study: Registration, database: Database | None) -> None:
    check_beginning(
        study.spec, database, storage_root=study.storage_root, data_fingerprint=study.data_fingerprint
    )


def _stop(stop: threading.Event, log: LaunchLog, why: str) -> None:
    log.said(why)
    stop.set()


class _Launch:
    """One launch from the moment that it holds the lease."""

    def __init__(
        self,
        ledger: StudyLedger,
        lease: Lease,
        cluster: ExitStack,
        log: LaunchLog,
        stop: Stop,
        *,
        is_joined: bool,
    ) -> None:
        self._ledger = ledger
        self._spec = ledger.spec
        self._lease = lease
        self._cluster = cluster
        self._log = log
        self._stop = stop
        self._mirror: MlflowMirror | None = None
        self._is_joined = is_joined  # the cluster, which has other machines then

    def run(
        self,
        *,
        data: DataRequest,
        store: Store,
        study: Registration,
        resources: TrialResources | None,
        command: str,
        remarks: Sequence[str],
    ) -> LaunchResult:
        """Mend what the last driver left, search, and write down how it ended."""
        problem: str | None = None
        try:
            self._open()
            for line in remarks:
                self._log.note(line)
            self._ledger.note_launch(
                command,
                num_images=len(store.samples),
                num_training_images=len(store.indices("train")),
            )
            self._mirror = MlflowMirror.start(
                self._ledger.database, self._spec.name, study.storage_root, self._log.said
            )
            if resources is not None and self._ledger.num_done() < self._spec.study.trials:
                search = StudySearch(
                    self._ledger,
                    data=data,
                    data_fingerprint=study.data_fingerprint,
                    storage_root=study.storage_root,
                    storage_mark=mark_storage(study.storage_root, self._spec.name)
                    if self._is_joined
                    else None,
                    code_digest=code_digest(plugin_sources()) if self._is_joined else None,
                    plugins=plugin_sources(),
                    num_threads=max(1, int(self._spec.resources.cpus)),
                    device_share=resources.device_share,
                    num_places=partial(num_places, resources),
                    listener=self._log,
                    stop=self._stop,
                    advisor=self._advisor(study.data_fingerprint),
                    warm_start=self._warm_start(),
                    on_trial_ended=None if self._mirror is None else self._mirror.wake,
                )
                self._search(search, resources)
                problem = search.problem
        except BaseException as error:
            self._conclude(None if isinstance(error, KeyboardInterrupt) else type(error).__name__, error)
            if isinstance(error, DatabaseAwayError) and self._stop.is_set():
                # Told to end while the database was away: the next launch mends what could not be written.
                return LaunchResult(
                    "interrupted", 0, self._spec.study.trials, f"{error}; not waited for any longer"
                )
            raise
        outcome, num_done = self._conclude(problem)
        return LaunchResult(outcome, num_done, self._spec.study.trials, problem)

    def _open(self) -> None:
        """Leave nothing RUNNING and queue the known-good points."""
        ledger = self._ledger
        ledger.optuna_study.sampler = build_sampler(self._spec, num_trials=len(ledger.trials()))
        left = ledger.reconcile("its driver ended without a word")
        if left:
            numbers = ", ".join(map(str, left))
            self._log.said(
                f"a former launch left trial {numbers} running; now FAIL, and queued again where sensible"
            )
        ledger.enqueue(self._spec.enqueue)
        complete = [trial.values[0] for trial in ledger.trials(TrialState.COMPLETE)]
        best = min(complete, key=self._spec.objective.cost, default=None)
        self._log.study_opened(budget=self._spec.study.trials, num_done=ledger.num_done(), best=best)

    def _advisor(self, data_fingerprint: str) -> Advisor | None:
        """Return who proposes the trials of a narrowed study, or of one with several objectives; else None: Optuna."""
        spec, ledger = self._spec, self._ledger
        imports = parents_trials(spec, ledger.database, data_fingerprint=data_fingerprint)
        if imports.said is not None:
            self._log.said(imports.said)
        is_needed = bool(imports.trials or spec.space.is_narrowed or spec.study.also)
        return Advisor(ledger, imports.trials) if is_needed else None

    def _warm_start(self) -> CheckpointRecord | None:
        """Return the checkpoint that all trials begin from, None where they begin anew."""
        sha256 = str(self._spec.fixed.get("warm_start.sha256", ""))
        return self._ledger.checkpoint_with(sha256) if sha256 else None

    def _search(self, search: StudySearch, resources: TrialResources) -> None:
        scheduler = build_scheduler(self._spec, _finished(self._ledger))
        try:
            watch = NodeWatch(resources, search.end, self._log.said)
            _run_tune(search, scheduler, watch, HangWatch(search, self._log.said), self._stop)
        except TuneError as error:  # its text is a whole traceback, whose last line says what it was
            raise self._broke_off(str(error).strip().rpartition("\n")[2]) from error
        except (RayError, RuntimeError, AssertionError, OSError) as error:
            # From Ray's own depths, where a traceback would say no more; but for an assertion, which may be ours.
            ours = error if isinstance(error, AssertionError) else None
            raise self._broke_off(f"{type(error).__name__}: {cause_of(str(error))}", ours) from error
        fatal = self._lease.problem or search.fatal
        if isinstance(fatal, StudyConflictError | DatabaseReplacedError) or (
            isinstance(fatal, DatabaseAwayError) and self._stop.is_set()
        ):
            raise fatal
        if fatal is not None:
            if isinstance(fatal, SearcherError):
                raise self._broke_off(str(fatal)) from fatal
            raise self._broke_off(f"{type(fatal).__name__}: {fatal}", fatal) from fatal

    def _broke_off(self, why: str, unforeseen: Exception | None = None) -> SearchBrokeOffError:
        return SearchBrokeOffError(
            f"--study {self._spec.name}: the search broke off: {why}; launch again to go on", unforeseen
        )

    def _conclude(self, problem: str | None, raised: BaseException | None = None) -> tuple[str, int]:
        """Stop the workers, then leave no trial RUNNING; also when a second Ctrl-C breaks off.

        Args:
            problem: Why the launch failed.
            raised: What the caller raises next, so that its line is not said here too.
        """
        self._stop.is_concluding = True
        self._cluster.close()  # from here on nobody writes into a trial's folder
        spec, ledger = self._spec, self._ledger
        try:
            if self._lease.problem is not None:  # nothing can be written any more
                return "failed", 0
            ledger.reconcile("interrupted: the launch ended before the trial did", counts=False)
            ledger.check_whole()
            num_done = ledger.num_done()
        except SearcherError as error:  # away, or the study was deleted: the next launch mends it
            if raised is None or str(error) != str(raised):
                self._log.said(f"could not write down the end of the launch: {error}")
            return "failed", 0
        if self._mirror is not None:
            self._mirror.close()
        outcome = "finished" if num_done >= spec.study.trials else "failed" if problem else "interrupted"
        self._lease.ends_as(outcome)
        self._log.ended(outcome, problem)
        return outcome, num_done


def _finished(ledger: StudyLedger) -> list[FrozenTrial]:
    return ledger.trials(TrialState.COMPLETE, TrialState.PRUNED)


def _run_tune(
    search: StudySearch,
    scheduler: tune.schedulers.TrialScheduler,
    watch: NodeWatch,
    hang_watch: HangWatch,
    stop: threading.Event,
) -> None:
    """Let Ray Tune run the trials; all that it writes itself goes to a scratch folder.

    `tune.run` and not `Tuner`: the latter pickles its configuration, search algorithm included, to disk.
    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with (
        scratch_folder() as scratch,
        _variables_of_tune(num_places(watch.resources)),
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
def _variables_of_tune(num_places: int) -> Iterator[None]:
    """Let Ray Tune start the actors of as many trials together as there is room for, and write no snapshots.

    By itself (2.60) it asks for one more when the last one's actor is up. And a trial that waits for its own is given
    the next one that becomes free, while what was starting for it is thrown away: with trials shorter than an actor's
    start, most nodes of a cluster would never get one. Its snapshots are for restoring a run, which the database does.
    Who has set Ray Tune's variables is left to it.
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
