"""PostgreSQL has no connection left, may only be read, and dies while its standby lags: one study after the other."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import small_ledger
from chaos_facts import assert_finished, look
from chaos_harness import Driver, Study, fault, wait_until
from chaos_postgres import PASSWORD, Server
from chaos_standby import Standby

from searcher.exceptions import DatabaseReplacedError
from searcher.ledger import liveness
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.retry_policy import RetryPolicy

_USER = "lab"
"""No superuser: PostgreSQL keeps some connections for those."""


@pytest.fixture
def standby(postgres: Server) -> Iterator[Standby]:
    """A standby of the server, and a user without rights of its own."""
    with postgres.connection() as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_USER]).fetchone() is None:
            connection.execute(f"CREATE ROLE {_USER} LOGIN PASSWORD '{PASSWORD}'")
    number = len(list(postgres.folder.glob("standby-*")))
    with Standby(postgres, postgres.folder / f"standby-{number}") as standby:
        yield standby


def _new_database(postgres: Server, name: str) -> None:
    postgres.new_database(name)
    with postgres.connection() as connection:
        connection.execute(f"ALTER DATABASE {name} OWNER TO {_USER}")


def _do(postgres: Server, *statements: str) -> None:
    with postgres.connection() as connection:
        for statement in statements:
            connection.execute(statement)


def _assert_outages(driver: Driver, count: int) -> None:
    """The driver said of each outage once that it waits, and once that it continues."""
    said = driver.output
    assert (
        said.count("waiting for it, nothing is lost") == said.count("the database is back after") == count
    ), said


def _wait_until_said(driver: Driver, words: str, times: int) -> None:
    wait_until(f"'{words}' is said", lambda: driver.output.count(words) >= times, driver=driver)


def _hold_every_connection(postgres: Server, held: ExitStack) -> None:
    """Take all connections that are no superuser's to have, as other programs do."""
    with postgres.connection() as connection:
        [limit] = connection.execute("SHOW max_connections").fetchone()
        [reserved] = connection.execute("SHOW superuser_reserved_connections").fetchone()
        [taken] = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ).fetchone()
    for _ in range(int(limit) - int(reserved) - taken + 1):
        held.enter_context(postgres.connection())


@pytest.mark.fault(
    "PostgreSQL without a connection: the user's limit (`CONNECTION LIMIT 0`), then all taken by others",
    holds="the driver says once that it waits and once that it continues; no trial fails",
)
@pytest.mark.fault(
    "PostgreSQL read-only in mid-run (`default_transaction_read_only`), then writable again", holds="the same"
)
@pytest.mark.fault(
    "PostgreSQL killed (kill -9) within a transaction of the driver's; a standby that lags by two epochs is promoted",
    holds="the driver continues there; what the standby lacked is written again: every epoch once; exact budget",
)
def test_a_study_outlives_full_read_only_and_dying_servers(
    new_study: Callable[..., Study], postgres: Server, standby: Standby, fact: Callable[[str], None]
):
    _new_database(postgres, "trouble")
    study = new_study(
        database=standby.url_of_both("trouble", _USER), trials=3, epochs=7, grace_epochs=7, max_concurrent=2
    )
    direct = postgres.url("trouble")
    halts = {
        name: fault(name, "searcher.training.trainer:Trainer._run_epoch", "hang", call=call, times=2)
        for name, call in (("second", 2), ("fourth", 4), ("sixth", 6))
    }
    driver = study.start(faults=list(halts.values()))

    def both_stand(name: str, *, after: int) -> None:
        wait_until(f"both stand before the {name} epoch", lambda: driver.hanging(name) == 2, driver=driver)
        wait_until("their epochs are written", lambda: look(direct).num_trained == 2 * after, driver=driver)

    both_stand("second", after=1)
    end_all = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{_USER}'"
    with ExitStack() as others:
        _do(postgres, f"ALTER ROLE {_USER} CONNECTION LIMIT 0", end_all)
        driver.let_go("second")
        _wait_until_said(driver, "is away", 1)
        assert 'too many connections for role "lab"' in driver.output
        before = postgres.said().count("remaining connection slots are reserved")
        _hold_every_connection(postgres, others)
        _do(postgres, f"ALTER ROLE {_USER} CONNECTION LIMIT -1")
        wait_until(
            "the driver finds no connection left",
            lambda: postgres.said().count("remaining connection slots are reserved") > before,
            driver=driver,
        )
    _wait_until_said(driver, "the database is back", 1)

    both_stand("fourth", after=3)
    standby.cut_off()
    _do(postgres, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    driver.let_go("fourth")
    _wait_until_said(driver, "is away", 2)
    assert "read-only" in driver.output
    _do(postgres, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    _wait_until_said(driver, "the database is back", 2)

    both_stand("sixth", after=5)
    assert look(standby.url("trouble")).num_trained == 6, "it lags by two epochs of each trial"
    with postgres.connection(database="trouble") as connection, connection.transaction():
        connection.execute("LOCK TABLE searcher_epochs IN SHARE MODE")
        driver.let_go("sixth")
        waits = (
            f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{_USER}' AND wait_event_type = 'Lock'"
        )
        wait_until(
            "the driver stands within a transaction",
            lambda: connection.execute(waits).fetchone()[0],
            driver=driver,
        )
        postgres.kill()
        connection.close()
    _wait_until_said(driver, "is away", 3)
    standby.promote()
    output = driver.ends_with(0, timeout_s=200)
    facts = look(standby.url("trouble"))
    assert_finished(facts, study.runs, budget=3, epochs=7)
    assert facts.states["FAIL"] == 0, "no trial suffered"
    assert len(facts.launches) == 1
    assert PASSWORD not in output
    _assert_outages(driver, 3)
    fact(f"{facts.summary()}; 3 outages")


@pytest.mark.parametrize("lost", ["trial", "launch"])
@pytest.mark.fault(
    "PostgreSQL killed, and the standby that is promoted lacks a running trial, or the launch itself",
    holds="one line says that an older copy took the database's place; the next launch resumes with what is there",
)
def test_a_standby_that_lags_by_a_trial_or_a_launch(
    lost: str,
    postgres: Server,
    standby: Standby,
    monkeypatch: pytest.MonkeyPatch,
    fact: Callable[[str], None],
):
    monkeypatch.setattr(liveness, "EXPIRES_AFTER_S", 0.1)
    _new_database(postgres, "lag")
    url = standby.url_of_both("lag", _USER)
    with Database.open(url, create=True) as database:
        ledger = small_ledger.register(database)
        if lost == "launch":
            standby.cut_off()
        lease = Lease.acquire(database, "s")
        try:
            kept = small_ledger.ask(ledger)
            ledger.report(kept, 1, small_ledger.metrics(0.5))
            if lost == "trial":
                standby.cut_off()
            number = small_ledger.ask(ledger)
            ledger.report(number, 1, small_ledger.metrics(0.4))
            postgres.kill()
            standby.promote()
            with pytest.raises(DatabaseReplacedError) as caught:
                _until_back(lambda: ledger.report(number, 2, small_ledger.metrics(0.6)))
            assert "an older copy" in str(caught.value)
            assert "\n" not in str(caught.value)
        finally:
            lease.release()
    with Database.open(url) as database, Lease.acquire(database, "s"):
        again = small_ledger.register(database)
        left = [kept] if lost == "trial" else []
        assert again.reconcile("its driver ended without a word") == left
        retry = small_ledger.ask(again)
        assert again.ancestors(retry) == left
        again.report(retry, 1, small_ledger.metrics(0.7))
        again.complete(retry, 0.7, best_epoch=1, stop_reason="epochs")
        assert again.num_done() == 1
    fact(f"{lost}: '{str(caught.value).partition(';')[0]}'")


def _until_back(act: Callable[[], None]) -> None:
    """Call again while the database is away."""
    RetryPolicy(lambda _: None, threading.Event(), limit_s=60)(act)
