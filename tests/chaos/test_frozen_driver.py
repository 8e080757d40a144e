"""Drivers that freeze and wake, and twenty that begin at once; the ledger alone, in real processes, without Ray."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_ledger
from chaos_postgres import Server

from searcher.exceptions import DatabaseAwayError, SearcherError, StudyConflictError
from searcher.ledger import liveness, takeover
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.retry_policy import RetryPolicy

multiprocessing.set_forkserver_preload(
    ["pytest", "small_ledger", "searcher.ledger.lease", "searcher.ledger.migrations"]
)
_processes = multiprocessing.get_context("forkserver")


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "SQLite":
        return str(tmp_path / "s.db")
    server: Server = request.getfixturevalue("postgres")
    return server.new_database("frozen")


def _drive_and_freeze(url: str, words: multiprocessing.SimpleQueue) -> None:
    """Drive a study from another host, freeze in mid-run, and continue after waking."""
    liveness._process_space = lambda: "another host"
    with Database.open(url) as database:
        ledger = small_ledger.register(database)
        lease = Lease.acquire(database, "s")
        number = small_ledger.ask(ledger)
        ledger.report(number, 1, small_ledger.metrics(0.5))
        words.put(number)
        os.kill(os.getpid(), signal.SIGSTOP)
        steps = (
            lambda: ledger.report(number, 2, small_ledger.metrics(0.6)),
            lambda: ledger.reconcile("interrupted"),
            lambda: small_ledger.ask(ledger),
        )
        for step in steps:
            try:
                step()
                words.put("written")
            except StudyConflictError as error:
                words.put(str(error))
        lease.release()
        words.put(lease.is_lost)


@pytest.mark.fault(
    "a driver that is frozen (SIGSTOP) until another host took its study over, and then wakes",
    holds="it writes nothing any more and says so in one line; the new driver's trials and queue are untouched",
)
def test_a_driver_that_wakes_writes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, fact: Callable[[str], None]
):
    monkeypatch.setattr(liveness, "EXPIRES_AFTER_S", 0.1)
    monkeypatch.setattr(takeover, "WATCH_S", 0.5)
    with Database.open(url, create=True) as database:
        ledger = small_ledger.register(database)
        words = _processes.SimpleQueue()
        process = _processes.Process(target=_drive_and_freeze, args=(url, words))
        process.start()
        try:
            number = words.get()
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.02)
            time.sleep(0.2)
            with Lease.acquire(database, "s"):
                assert ledger.reconcile("its driver ended without a word") == [number]
                running = small_ledger.ask(ledger)
                assert ledger.ancestors(running) == [number]
                ledger.enqueue([{"optimizer.lr": 0.02, "optimizer.name": "sgd"}])
                before = database.trials("s")
                os.kill(process.pid, signal.SIGCONT)
                said = [words.get() for _ in range(4)]
                assert database.trials("s") == before
                assert small_ledger.ask(ledger) == running + 1, "what was queued is still there"
        finally:
            process.kill()
            process.join()
    for line in said[:3]:
        assert "got another one that took it over" in line
        assert "\n" not in line
    assert said[3] is True
    fact(f"'{said[0].partition(';')[0]}'")


def _start(url: str, together: "multiprocessing.Barrier", outcomes: multiprocessing.SimpleQueue) -> None:
    """Begin as a launch does: tables, study, lease; hold the lease until all have tried."""
    retry_policy = RetryPolicy(lambda text: None, threading.Event(), limit_s=120)
    together.wait()
    try:
        with retry_policy(lambda: Database.open(url, create=True)) as database:
            retry_policy(lambda: small_ledger.registration().register(database))
            try:
                lease = retry_policy(lambda: Lease.acquire(database, "s"))
            except StudyConflictError as error:
                outcomes.put("refused" if "one driver at a time" in str(error) else str(error))
                together.wait()
                return
            outcomes.put("began")
            together.wait()
            lease.ends_as("finished")
            lease.release()
    except (SearcherError, DatabaseAwayError) as error:
        outcomes.put(str(error))
        together.wait()


@pytest.mark.fault(
    "20 launches at the same instant on one new database",
    holds="exactly one begins; each other one is refused for the lease alone",
)
def test_twenty_starts_at_once_on_a_new_database(url: str, fact: Callable[[str], None]):
    together, outcomes = _processes.Barrier(20), _processes.SimpleQueue()
    starts = [_processes.Process(target=_start, args=(url, together, outcomes)) for _ in range(20)]
    for process in starts:
        process.start()
    try:
        found = sorted(outcomes.get() for _ in starts)
        for process in starts:
            process.join(60)
    finally:
        for process in starts:
            process.kill()
            process.join()
    assert found == ["began"] + 19 * ["refused"]
    with Database.open(url) as database:
        assert database.study("s").last_launch.outcome == "finished"
    fact("1 began, 19 were refused for the lease")
