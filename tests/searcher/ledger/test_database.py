"""Opening databases: what is created, what is refused, and that a password shows nowhere."""

import multiprocessing
import os
import pickle
import re
import sqlite3
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from searcher.exceptions import DatabaseError, StudyConflictError
from searcher.ledger import engine as engines
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.migrations import upgrade
from searcher.ledger.study_ledger import StudyLedger
from searcher.ledger.tables import Base
from searcher.study.reader import parse_study


def test_tables_are_what_the_migrations_make(database):
    """The declared tables and the migrated database must not drift apart."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    ours = {table.name for table in Base.metadata.sorted_tables}
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": "searcher_alembic_version",
                "include_name": lambda name, kind, _: kind != "table" or name in ours,
                "compare_type": True,
            },
        )
        assert compare_metadata(context, Base.metadata) == []


def test_opening_again_migrates_again_without_harm(database, database_url):
    upgrade(database.engine)
    with Database.open(database_url, create=True) as again:
        assert again.study_names() == []


def test_optuna_opens_the_same_database(database):
    optuna.create_study(study_name="beside", storage=database.optuna_storage)
    assert optuna.get_all_study_names(database.optuna_storage) == ["beside"]


def test_sqlite_writes_ahead(tmp_path):
    with Database.open(str(tmp_path / "s.db"), create=True):
        pass
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_reading_a_missing_file_leaves_no_database_behind(tmp_path):
    with pytest.raises(DatabaseError, match=r"s\.db: the database must exist; launch a study first"):
        Database.open(str(tmp_path / "s.db"))
    assert list(tmp_path.iterdir()) == []


def test_reading_a_database_without_studies_leaves_it_alone(tmp_path):
    path = tmp_path / "s.db"
    sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(DatabaseError, match="must hold studies"):
        Database.open(str(path))
    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("other",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{tmp}/no/s.db", "its folder must exist; create"),
        ("{tmp}", "must be a file, got a folder"),
        ("{tmp}/text.db", "must be an SQLite database, got another kind of file"),
        ("mysql://user@host/x", "must be SQLite or PostgreSQL, got mysql"),
        ("sqlite://", "must name a file, got a database in memory"),
        ("sqlite:///:memory:", "must name a file, got a database in memory"),
        ("postgresql://user:p@ss@host/x", "must have one @ before the host"),
        ("postgresql://user:p@ss:word@host/x", "must be a path or a URL"),
        ("postgresql://user@127.0.0.1:1/x?password=p@ss", "must be reachable"),
        ("postgresql://user@127.0.0.1:1/x", "must be reachable"),
    ],
)
def test_a_database_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "text.db").write_text("not a database, but long enough to have a header")
    with pytest.raises(DatabaseError) as caught:
        Database.probe(text.format(tmp=tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


def test_sqlite_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_file_system", lambda folder: "nfs4")
    with pytest.raises(DatabaseError, match="must lie on a local disk, got nfs4"):
        Database.open(str(tmp_path / "s.db"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_password_shows_nowhere(fresh_postgres_url):
    with Database.open(fresh_postgres_url, create=True) as database:
        assert "s3cret-pw" not in repr(database)
        assert "***" in repr(database)
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(database)
        with database.engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            dump = repr([connection.execute(sa.text(f'SELECT * FROM "{table}"')).all() for table in tables])
        assert "s3cret-pw" not in dump
    unreachable = re.sub(r"host=[^&]+", "host=127.0.0.1&port=1", fresh_postgres_url)
    with pytest.raises(DatabaseError) as caught:
        Database.open(unreachable)
    assert "s3cret-pw" not in str(caught.value)
    assert caught.value.__cause__ is None, "a chained traceback would print the driver's connection string"


def register(database: Database) -> None:
    spec = parse_study('[study]\nname = "s"\n', source="s.toml")
    StudyLedger.register(
        database, spec, data_source="x", data_fingerprint="f" * 64, storage_root=Path("/nowhere")
    )


def _race(url: str, barrier, queue) -> None:
    with Database.open(url) as database:
        barrier.wait()
        try:
            lease = Lease.acquire(database, "s")
        except StudyConflictError:
            queue.put("refused")
        else:
            queue.put("won")
            barrier.wait()
            lease.release()
            return
        barrier.wait()


def test_of_drivers_in_the_same_instant_exactly_one_wins(database, database_url):
    register(database)
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    drivers = [context.Process(target=_race, args=(database_url, barrier, queue)) for _ in range(3)]
    for driver in drivers:
        driver.start()
    assert sorted(queue.get(timeout=60) for _ in drivers) == ["refused", "refused", "won"]
    for driver in drivers:
        driver.join(timeout=60)


def _hold_lease_and_die(url: str) -> None:
    with Database.open(url) as database:
        Lease.acquire(database, "s")
        os._exit(9)


def test_the_lease_of_a_killed_driver_on_this_host_is_free_at_once(database, database_url):
    register(database)
    driver = multiprocessing.get_context("spawn").Process(target=_hold_lease_and_die, args=(database_url,))
    driver.start()
    driver.join(timeout=60)
    assert driver.exitcode == 9
    Lease.acquire(database, "s").release()
