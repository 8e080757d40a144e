"""Opening databases: what is created, what is refused, and that a password shows nowhere."""

import pickle
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import optuna
import pytest
import sqlalchemy as sa

from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger import guard, sqlite_file
from searcher.ledger.database import Database
from searcher.ledger.tables import StudyRow


def test_optuna_opens_the_same_database(database):
    optuna.create_study(study_name="beside", storage=database.optuna_storage)
    assert optuna.get_all_study_names(database.optuna_storage) == ["beside"]


def test_sqlite_writes_ahead(tmp_path):
    with Database.open(str(tmp_path / "s.db"), create=True):
        pass
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reader_makes_no_tables_of_optunas_either(database_url):
    Database.open(database_url, create=True).close()
    engine = engines.connect(engines.parse_url(database_url), create=False)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text("DROP TABLE version_info"))
    with (
        Database.open(database_url) as database,
        pytest.raises(DatabaseError, match=r"version_info") as caught,
    ):
        database.optuna_storage  # noqa: B018  which is opened when it is needed
    assert "\n" not in str(caught.value)
    assert not sa.inspect(engine).has_table("version_info")
    engine.dispose()


def test_opening_a_file_again_takes_away_none_of_the_first_ones_locks(tmp_path):
    """POSIX locks end with any handle on the file: another process then removes the log under the driver's feet."""
    path = tmp_path / "s.db"
    with Database.open(str(path), create=True) as driver:
        driver.ping()
        Database.open(str(path)).close()
        Database.probe(str(path))
        reader = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('SELECT * FROM studies'); c.close()"
        subprocess.run([sys.executable, "-c", reader], check=True)
        assert (tmp_path / "s.db-wal").exists()
        optuna.create_study(study_name="kept", storage=driver.optuna_storage)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT study_name FROM studies").fetchall() == [("kept",)]


def test_a_locked_file_is_said_to_be_locked_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "BUSY_TIMEOUT_S", 0.2)
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseAwayError, match=r"s\.db: is away: database is locked$"):
            Database.open(str(path), create=True)
        other.execute("COMMIT")
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]
    Database.open(str(path), create=True).close()


def test_the_urls_own_options_go_before_ours(fresh_postgres_url):
    url = engines.parse_url(fresh_postgres_url + "&connect_timeout=3")
    engine = engines.connect(url, create=False)
    with engine.connect() as connection:
        said = connection.connection.dbapi_connection.info.get_parameters()
    engine.dispose()
    assert said["connect_timeout"] == "3"
    assert (said["keepalives_idle"], said["tcp_user_timeout"]) == ("20", "40000")


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
        ("postgresql://user:p@ss@host/x", "must have one @, before the host"),
        ("postgresql://user:p@ss:word@host/x", "must have one @, before the host"),
        ("postgresql://user@127.0.0.1:1/x?password=p@ss", "must have one @, before the host"),
        ("postgresql://user@127.0.0.1:1/x?password=p%40ss", "must be reachable"),
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
    monkeypatch.setattr(sqlite_file, "_file_system", lambda path: "nfs4")
    with pytest.raises(DatabaseError, match="must lie on a local disk, got nfs4"):
        Database.open(str(tmp_path / "s.db"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_password_shows_nowhere(fresh_postgres_url):
    with Database.open(fresh_postgres_url, create=True) as database:
        assert "s3cret-pw" not in repr(database)
        assert "***" in repr(database)
        for secretive in (database, database.optuna_storage):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(secretive)
        assert "s3cret-pw" not in repr(database.optuna_storage)
        with database.engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            dump = repr([connection.execute(sa.text(f'SELECT * FROM "{table}"')).all() for table in tables])
        assert "s3cret-pw" not in dump
    unreachable = re.sub(r"host=[^&]+", "host=127.0.0.1&port=1", fresh_postgres_url)
    with pytest.raises(DatabaseError) as caught:
        Database.open(unreachable)
    assert "s3cret-pw" not in str(caught.value)
    assert caught.value.__cause__ is None, "a chained traceback would print the driver's connection string"


def test_what_was_written_shows_in_no_error(database):
    def study() -> StudyRow:
        return StudyRow(
            name="s",
            objective="loss",
            budget=1,
            spec_text="",
            identity={},
            data_fingerprint="",
            data_source="https://user:s3cret@host",
            storage_root="",
        )

    with pytest.raises(DatabaseError) as caught, database.write() as session:
        session.add_all([study(), study()])
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in str(caught.value.__context__)


def test_a_password_in_the_databases_own_words_is_masked():
    address = engines.parse_url("postgresql://user:p%40ss@host/x")
    said = sa.exc.OperationalError("", None, Exception("could not use p@ss nor p%40ss"))
    assert engines.reason(said, address) == "could not use *** nor ***"


def test_the_password_of_a_key_file_is_masked_too():
    address = engines.parse_url("postgresql://user@host/x?sslkey=k.pem&sslpassword=t%40psecret")
    assert "psecret" not in str(address)
    assert "sslkey=k.pem" in str(address)
    said = sa.exc.OperationalError("", None, Exception("could not use t@psecret nor t%40psecret"))
    assert engines.reason(said, address) == "could not use *** nor ***"
