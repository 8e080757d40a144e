"""PostgreSQL dies and a standby that lags is promoted: the ledger alone, on two real servers, without Ray."""

import threading
from collections.abc import Callable, Iterator

import pytest
import small_ledger
from chaos_postgres import PASSWORD, Server
from chaos_standby import Standby

from searcher.exceptions import DatabaseReplacedError
from searcher.ledger import liveness
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.patience import Patience

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


@pytest.mark.parametrize("lost", ["trial", "launch"])
@pytest.mark.fault(
    "PostgreSQL killed, and the standby that is promoted lacks a running trial, or the launch itself",
    holds="one line says that an older copy took the database's place; the next launch goes on with what is there",
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
    Patience(lambda _: None, threading.Event(), limit_s=60)(act)
