"""What may pass of itself and what will not, told from errors as the two databases really raise them."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from chaos_postgres import PASSWORD, Server
from new_database import new_database

from searcher.exceptions import DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger import guard
from searcher.ledger.outage import is_outage


def caught(act: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011  each test says what it expects of it
        act()
    return caught.value


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """On an empty database, with one table of one row."""
    engine = engines.connect(engines.parse_url(database_url), create=True)
    run(engine, "CREATE TABLE t (x INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM no_such_table",
        "SELECT no_such_column FROM t",
        "INSERT INTO t VALUES (1)",
        "no SQL at all",
    ],
)
def test_what_the_database_will_refuse_again_is_no_outage(engine, statement):
    assert not is_outage(caught(lambda: run(engine, statement)))


def test_a_bug_of_ours_is_no_outage():
    assert not is_outage(caught(lambda: [][0]))


# ---- SQLite ------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, y)")
    return tmp_path / "study.db"


def test_a_locked_file_is_an_outage_also_through_optuna_and_in_our_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "BUSY_TIMEOUT_S", 0.1)
    with new_database(tmp_path / "s.db") as database:
        study = optuna.create_study(study_name="s", storage=database.optuna_storage)
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as dashboard:
            dashboard.execute("BEGIN IMMEDIATE")
            through_optuna = caught(lambda: study.ask())
            assert isinstance(through_optuna, optuna.exceptions.StorageInternalError)
            assert is_outage(through_optuna)
            ours = caught(database.ping)
            assert isinstance(ours, DatabaseError)
            assert is_outage(ours)


def test_a_full_disk_is_an_outage(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA max_page_count=3")  # SQLite then says what it says when the disk is full
        error = caught(lambda: connection.execute("INSERT INTO t VALUES (1, zeroblob(100000))"))
    assert "full" in str(error)
    assert is_outage(error)


def test_a_damaged_file_and_another_kind_of_file_are_no_outage(path, tmp_path):
    (tmp_path / "text.db").write_text("not a database, but long enough to have a header" * 100)
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100
    path.write_bytes(content)
    for damaged in (path, tmp_path / "text.db"):
        with closing(sqlite3.connect(damaged)) as connection:
            assert not is_outage(caught(lambda c=connection: c.execute("SELECT * FROM t")))


def test_all_connections_in_use_is_an_outage(path):
    engine = sa.create_engine(f"sqlite:///{path}", pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect():
        assert is_outage(caught(engine.connect))
    engine.dispose()


# ---- PostgreSQL --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for the password, and that these tests may stop."""
    server = Server(tmp_path_factory.mktemp("outage"))
    yield server
    server.close()


@pytest.fixture
def url(server: Server) -> sa.URL:
    return sa.make_url(server.new_database("outage")).set(drivername="postgresql+psycopg")


@pytest.fixture
def on_postgres(url: sa.URL) -> Iterator[sa.Engine]:
    address = engines.parse_url(url.render_as_string(hide_password=False))
    engine = sa.create_engine(engines.bare_url(address), **engines.engine_arguments(address))
    yield engine
    engine.dispose()


def test_a_terminated_connection_is_an_outage_and_so_is_its_use_before_a_roll_back(on_postgres):
    with on_postgres.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        run(on_postgres, f"SELECT pg_terminate_backend({pid}, 10000)")
        assert is_outage(caught(lambda: connection.execute(sa.text("SELECT 1"))))
        assert is_outage(caught(lambda: connection.execute(sa.text("SELECT 1"))))


def test_a_cancelled_statement_a_lock_and_a_deadlock_are_outages(on_postgres):
    run(on_postgres, "CREATE TABLE t (x INTEGER)")
    with on_postgres.begin() as holder:
        holder.execute(sa.text("LOCK TABLE t"))
        assert is_outage(
            caught(lambda: run(on_postgres, "SET LOCAL lock_timeout = 50", "INSERT INTO t VALUES (1)"))
        )
    assert is_outage(
        caught(lambda: run(on_postgres, "SET LOCAL statement_timeout = 50", "SELECT pg_sleep(9)"))
    )


def test_a_wrong_password_an_unknown_database_and_an_unknown_role_are_no_outage(url):
    for wrong in (
        url.set(password="wrong"),
        url.set(database="nowhere"),
        url.set(username="nobody"),
        url._replace(password=None),
    ):
        error = caught(lambda url=wrong: sa.create_engine(url).connect())
        assert isinstance(error, sa.exc.OperationalError)
        assert not is_outage(error)
        assert PASSWORD not in str(error)


def test_too_many_connections_are_an_outage(on_postgres, url):
    run(on_postgres, f"CREATE ROLE few LOGIN CONNECTION LIMIT 0 PASSWORD '{PASSWORD}'")
    error = caught(lambda: sa.create_engine(url.set(username="few")).connect())
    assert "too many connections" in str(error)
    assert is_outage(error)


def test_a_server_that_shuts_down_and_one_that_is_down_are_outages(server, url, on_postgres):
    [postmaster, *_] = (Path(server._server.pgdata) / "postmaster.pid").read_text().split()
    session = on_postgres.connect()  # keeps the server in the middle of shutting down
    os.kill(int(postmaster), signal.SIGTERM)
    shutting_down = caught(lambda: [sa.create_engine(url).connect().close() for _ in range(10_000)])
    assert "shutting down" in str(shutting_down)
    assert is_outage(shutting_down)
    server.stop()
    assert is_outage(caught(lambda: session.execute(sa.text("SELECT 1"))))
    down = caught(lambda: sa.create_engine(url).connect())
    server.start()
    assert is_outage(down)


def test_a_port_where_nobody_listens_is_an_outage():
    assert is_outage(caught(lambda: sa.create_engine("postgresql+psycopg://u@127.0.0.1:1/x").connect()))
