"""A launch: refuse what can be refused, start the cluster, take the study's lease, and run."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.more_epochs import is_raised, to_continue
from searcher.ledger.registration import Registration
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.study_ledger import StudyLedger
from searcher.ledger.watch import frozen_trials
from searcher.lineage.resolve import check_beginning
from searcher.orchestration.cluster.gpu_probe import check_gpu_share
from searcher.orchestration.cluster.node_arrival import resources_once_there
from searcher.orchestration.cluster.node_probe import check_nodes
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import TrialResources, num_concurrent, trial_resources
from searcher.orchestration.jobs.submission import current_job
from searcher.orchestration.launch_log import LaunchLog
from searcher.orchestration.launch_run import LaunchResult, LaunchRun
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.preflight import check_disk, check_weights
from searcher.orchestration.run_context import RunContext
from searcher.orchestration.signals import Stop, stop_on_signals
from searcher.orchestration.trials.time_budget import check_gpu_hours
from searcher.orchestration.trials.trial_workspace import AWAY_LIMIT_S
from searcher.plugins import plugin_sources
from searcher.storage.mirror import root_text, storage_of
from searcher.storage.object_store import ObjectStore
from searcher.study.layout import LAUNCH_LOG
from searcher.training.pixels import pixels_of

__all__ = ["LaunchResult", "launch"]


def launch(run: RunContext, *, database: DatabaseAddress | str, listener: StudyListener) -> LaunchResult:
    """Run a study until its budget is used or it is interrupted, and return the result; later launches resume it.

    All checks come before the database is created or changed.

    Args:
        run: The study, its data and its storage root; the resources are decided here.
        database: Address of the study database, or its text; created if it is missing.
        listener: Receives the progress.

    Raises:
        StudyConflictError: The study differs from the one in the database, or another driver runs it.
        DatabaseError: The database cannot be used.
        UserError: The cluster cannot be reached or can never run a trial, or a node lacks the data or the storage
            folder. The disk, or a trial's share of a GPU, is too small. Pretrained weights are missing, or the
            checkpoint from which trials start is damaged.
        SearcherError: The search ended early.
    """
    plugin_sources()  # what no worker can import is refused before anything begins
    study = _registration(run)
    with ExitStack() as held:
        look = partial(_look, database, study, held)
        opened, remaining = RetryPolicy(listener.info, threading.Event())(look)
        if remaining and not run.is_joined:
            # Each node of a cluster fetches its own, and this may be none of them.
            check_weights(run.spec)
        log = held.enter_context(_launch_log(run, listener))
        cluster = held.enter_context(ExitStack())
        if remaining:
            cluster.enter_context(ray_cluster(run.address))
            run = replace(run, resources=_resources(run, listener, remaining))
        storage_of(run.storage_root).retry_for_s = AWAY_LIMIT_S
        stop = held.enter_context(stop_on_signals(log))
        retrying = RetryPolicy(log.info, stop)
        if opened is None:
            opened = held.enter_context(retrying(partial(Database.open, database, create=True)))
        return _run_with_lease(run, study, opened, cluster, log, stop)


def _registration(run: RunContext) -> Registration:
    return Registration(
        spec=run.spec,
        data_source=run.data_source,
        data_fingerprint=run.data_fingerprint,
        storage_root=run.storage_root,
        normalised_since=_normalised_since(run),
    )


def _resources(run: RunContext, listener: StudyListener, num_remaining: int) -> TrialResources:
    """Return the resources that one trial reserves on the running cluster, after checking that trials can run there."""
    spec, data, fingerprint = run.spec, run.data, run.data_fingerprint
    if run.is_joined:
        resources = resources_once_there(spec.resources, listener.info)
    else:
        resources = trial_resources(spec.resources)
    if not storage_of(run.storage_root).is_remote:
        concurrent = num_concurrent(spec.resources, resources)
        check_disk(spec, run.storage_root, num_remaining=num_remaining, num_concurrent=concurrent)
    if run.is_joined:
        check_nodes(
            resources,
            storage_root=run.storage_root,
            data=data,
            fingerprint=fingerprint,
            plugins=plugin_sources(),
            say=listener.info,
        )
    check_gpu_hours(spec, resources.gpus)
    check_gpu_share(spec, resources, data=data, fingerprint=fingerprint, say=listener.info)
    return resources


def _run_with_lease(
    run: RunContext,
    study: Registration,
    opened: Database,
    cluster: ExitStack,
    log: LaunchLog,
    stop: Stop,
) -> LaunchResult:
    """Register the study, take its lease, and search."""
    retrying = RetryPolicy(log.info, stop)
    retrying(lambda: study.register(opened))
    with retrying(lambda: Lease.acquire(opened, run.spec.name, job=current_job())) as lease:
        lease.on_lost(lambda: _stop(stop, log, str(lease.problem)))
        lease.on_stop(lambda: _stop(stop, log, "asked to stop by `searcher stop`; stopping after this step"))
        retry_policy = RetryPolicy(log.info, stop, before_again=lease.check)
        retry_policy(lambda: study.begin_launch(opened))
        ledger = retry_policy(lambda: StudyLedger(opened, run.spec, retry_policy=retry_policy))
        return LaunchRun(run, ledger, lease, cluster, log, stop).run()


def _normalised_since(run: RunContext) -> str:
    """Return why images are normalised by percentiles, if that is left to the data and so decided."""
    if "data.normalisation" in run.spec.space:
        return ""
    facts = pixels_of(run.spec.trial_config({}), run.store)
    return facts.reason if facts.normalisation.kind == "percentile" else ""


def _launch_log(run: RunContext, listener: StudyListener) -> LaunchLog:
    study, storage_root = run.spec.name, run.storage_root
    if not storage_of(storage_root).is_remote:
        return LaunchLog(storage_root / study / LAUNCH_LOG, listener)
    # Beside the mirror's copy, which whoever reads the log here replaces; and without retries: it is but a log.
    return LaunchLog(
        storage_root / f".{study}.{LAUNCH_LOG}",
        listener,
        origin=ObjectStore(root_text(storage_root)),
        name=f"{study}/{LAUNCH_LOG}",
    )


def _look(
    address: DatabaseAddress | str, study: Registration, held: ExitStack
) -> tuple[Database | None, int]:
    """Refuse what the database as it is refuses. Changes nothing.

    Args:
        address: Of the database.
        study: The study.
        held: Closes the database in the end.

    Returns:
        The database, None where it is not there yet or of an older revision; and how many trials remain.
    """
    budget = study.spec.study.trials
    try:
        opened = Database.open(address)
    except DatabaseAwayError:  # locked, by another launch that makes its tables say
        raise
    except DatabaseError:  # not there yet, of an older revision, or unusable, which opening to write will say
        study.check(None)
        _check_beginning(study, None)
        return None, budget
    with ExitStack() as on_error:
        on_error.enter_context(opened)
        study.check(opened)
        remaining = budget
        if study.spec.name in opened.study_names():
            Lease.refuse_if_held(opened, study.spec.name)
            record = opened.study(study.spec.name)
            remaining = max(0, budget - record.num_done) + record.num_going_on
            if is_raised(opened.study_row(study.spec.name), study.spec):
                chosen = to_continue(
                    frozen_trials(opened, study.spec.name), study.spec.objective, study.spec.max_epochs
                )
                remaining += len(chosen)
        if remaining:
            _check_beginning(study, opened)
        held.push(on_error.pop_all())
        return opened, remaining


def _check_beginning(study: Registration, database: Database | None) -> None:
    check_beginning(
        study.spec, database, storage_root=study.storage_root, data_fingerprint=study.data_fingerprint
    )


def _stop(stop: threading.Event, log: LaunchLog, why: str) -> None:
    log.info(why)
    stop.set()
