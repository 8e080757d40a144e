"""Launching a study, behind the studies that it comes from where that is wanted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from searcher.data_pipeline.datasets.view import DataView
from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.database import Database
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.shipped import as_it_began, upgrade_remark
from searcher.lineage.chain import chain
from searcher.lineage.resolve import is_enough, resolve
from searcher.orchestration.cluster.ray_cluster import check_reachable
from searcher.orchestration.driver import LaunchResult
from searcher.orchestration.driver import launch as drive
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.run_context import RunContext
from searcher.storage.mirror import cache_dir
from searcher.study.spec import StudySpec
from searcher.training.class_data import pinned
from searcher.training.data_check import check_data
from searcher.training.dataset import DataRequest

__all__ = ["LaunchPlace", "LaunchWatcher", "launch_in_order"]


@dataclass(frozen=True, kw_only=True)
class LaunchPlace:
    """Where a launch finds its data, runs, and writes its results."""

    database: DatabaseAddress
    data: str | None
    """The data set's folder or URI; None for synthetic glands."""
    view: DataView
    """How the data set is read."""
    storage_root: Path
    """This machine's folder of the storage root."""
    address: str | None
    """HOST:PORT of a running Ray cluster; None for one of its own."""
    command: str
    """What a person typed, for the study's note."""


class LaunchWatcher(Protocol):
    """Shows the progress of a launch to the user. It is called in the thread that launches."""

    def preparing(self) -> AbstractContextManager[Callable[[int, int], None]]:
        """Return a context manager for the decoding of images; it yields a function to call with (done, total)."""

    def watching(self, spec: StudySpec) -> AbstractContextManager[StudyListener]:
        """Return a context manager for the launch of one study; it yields the listener to notify."""

    def ended(self, spec: StudySpec, result: LaunchResult) -> None:
        """Called when the launch of one study has ended, with the result."""

    def remark(self, text: str) -> None:
        """Called with a line about a parent study, for example that all its trials are done."""

    def problem(self, text: str) -> None:
        """Called with a line about a problem, for example that the database cannot be reached."""


def launch_in_order(
    spec: StudySpec, place: LaunchPlace, watcher: LaunchWatcher, *, with_parents: bool
) -> LaunchResult:
    """Run a study until its budget is used, or resume it, and return how the launch ended.

    Args:
        spec: The study.
        place: Where data, database and storage are.
        watcher: Shows the progress of the launch.
        with_parents: Whether to run unfinished parent studies first.

    Returns:
        The result of the study's launch; or that of a parent which failed to produce what its child needs.

    Raises:
        UserError: The study, the data or the cluster cannot be used.
        SearcherError: The search ended early.
    """
    with _existing(place.database, watcher.problem) as database:
        studies = chain(spec, database) if with_parents else [spec]
    check_reachable(place.address)
    for parent, child in pairwise(studies):
        with _existing(place.database, watcher.problem) as database:
            is_done = _is_done(parent, database)
        if is_done:
            watcher.remark(f"{parent.name}: all trials done already")
            continue
        result = _launch_one(parent, place, watcher)
        if result.outcome == "finished":
            continue
        with _existing(place.database, watcher.problem) as database:
            if result.outcome != "failed" or not is_enough(child, database):
                return result
        watcher.remark(f"{child.name}: what {parent.name} has is enough, going on")
    return _launch_one(spec, place, watcher)


def _launch_one(spec: StudySpec, place: LaunchPlace, watcher: LaunchWatcher) -> LaunchResult:
    with _existing(place.database, watcher.problem) as database:
        spec, as_began = _as_it_began(spec, database)
        spec = resolve(spec, database, storage_root=place.storage_root)
    config = spec.trial_config({})
    data = DataRequest(place.data, str(cache_dir()), config.data, place.view)
    with watcher.preparing() as advance:
        store = data.prepare(advance)
    spec = pinned(spec, store)
    config = spec.trial_config({})
    data = replace(data, synthetic=config.data)
    remarks = [*as_began, *check_data(store, data, config)]
    run = RunContext(
        spec=spec,
        data=data,
        store=store,
        storage_root=place.storage_root,
        address=place.address,
        command=place.command,
        remarks=tuple(remarks),
    )
    with watcher.watching(spec) as listener:
        for line in remarks:
            listener.info(line)
        result = drive(run, database=place.database, listener=listener)
    watcher.ended(spec, result)
    return result


def _as_it_began(spec: StudySpec, database: Database | None) -> tuple[StudySpec, list[str]]:
    """Return a study, and remarks; a shipped study is returned as its file was when the study began."""
    if database is None or spec.name not in database.study_names():
        return spec, []
    before = as_it_began(spec, database.study_row(spec.name))
    return before, [] if before is spec else [upgrade_remark(spec)]


@contextmanager
def _existing(address: DatabaseAddress, problem: Callable[[str], None]) -> Iterator[Database | None]:
    """Open the study database; None where it is still to be made, or to be upgraded by the launch.

    Raises:
        DatabaseAwayError: It is away or locked.
    """
    try:
        opened = RetryPolicy(problem, threading.Event())(lambda: Database.open(address))
    except DatabaseAwayError:
        raise
    except DatabaseError:
        yield None
        return
    with opened:
        yield opened


def _is_done(spec: StudySpec, database: Database | None) -> bool:
    if database is None or spec.name not in database.study_names():
        return False
    study = database.study(spec.name)
    return study.num_done >= study.budget
