"""Addresses of databases: what is one, what is refused, and that no part of a password shows."""

import pickle

import pytest

from searcher.cli.options import database_address
from searcher.exceptions import DatabaseError
from searcher.ledger.address import parse_url
from searcher.ledger.database import Database
from searcher.settings import read_setting, take_setting, without_frame


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:Hunter@Secret/Word@127.0.0.1:1/name",
        "postgresql://user:Hunter@Secret?Word@127.0.0.1:1/name",
        "postgresql://user:@Secret/Hunter@127.0.0.1:1/name",
        "postgresql://user:Hunter?Secret@Word/x@127.0.0.1:1/name",
        "postgresql://user:Secret/Hunter@127.0.0.1:1/name",
        "postgresql://user:Hunter%Secret@127.0.0.1:1/name",
        "postgresql://user:Hunter Secret@127.0.0.1:1/name",
        "postgresql://user@127.0.0.1:1/name?password=Hunter@Secret",
        "postgresql://user@127.0.0.1:1/name?password=Hunter&Secret=Word",
        "postgresql://user:Hunter/Secret",
        "postgresql:/user:Secret@127.0.0.1/name",
        "postgresql:user:Secret@127.0.0.1/name",
        "jdbc:postgresql://user:Secret@127.0.0.1/name",
        '"postgresql://user:Secret@127.0.0.1/name"',
        "SEARCHER_DB=postgresql://user:Secret@127.0.0.1/name",
        "user:Secret@127.0.0.1/name",
        "'Secret.db'",
        '"Secret.db"',
        "file:Secret.db?mode=ro",
        "user:Hunter/Secret@127.0.0.1:1/name",
        "user:Hunter Secret/Word@127.0.0.1/name",
        "mysql://user:Secret@127.0.0.1/name",
        "host=127.0.0.1 password='Secret",
        "postgresql://user:Hunter@a:1,Secret:Word/name",
        "dbname=postgresql://user:Secret@127.0.0.1/name",
    ],
)
def test_what_is_no_address_is_refused_in_one_line_without_any_part_of_it(text):
    with pytest.raises(DatabaseError) as caught:
        parse_url(text)
    said = str(caught.value)
    assert "\n" not in said
    assert not any(part in said for part in ("Hunter", "Secret", "Word"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (
            "postgresql://u:p%40ss@h:5/x",
            {"user": "u", "password": "p@ss", "host": "h", "port": 5, "dbname": "x"},
        ),
        ("postgres://u:a#b:c@h/x", {"user": "u", "password": "a#b:c", "host": "h", "dbname": "x"}),
        ("PostgreSQL://h/x?sslmode=require", {"host": "h", "dbname": "x", "sslmode": "require"}),
        ("postgresql:///x?host=/tmp&password=p%40ss", {"dbname": "x", "host": "/tmp", "password": "p@ss"}),
        (
            "host=db.example user=u password=p@ss dbname=x",
            {"user": "u", "password": "p@ss", "host": "db.example", "dbname": "x"},
        ),
        (
            "postgresql://u:p%40ss@a:1,b:2/x?target_session_attrs=read-write",
            {"user": "u", "password": "p@ss", "host": "a,b", "port": "1,2", "dbname": "x"}
            | {"target_session_attrs": "read-write"},
        ),
        ("postgresql://[::1]:7,b/x", {"host": "::1,b", "port": "7,5432", "dbname": "x"}),
        ("postgresql://a,b/x", {"host": "a,b", "port": ",", "dbname": "x"}),
        ("postgresql:///x?host=/a,/b", {"host": "/a,/b", "port": ",", "dbname": "x"}),
        ("host=a,b port=1,2 password='p @/?ss'", {"host": "a,b", "port": "1,2", "password": "p @/?ss"}),
        ("service=pathology", {"service": "pathology"}),
    ],
)
def test_urls_and_libpqs_own_form(text, arguments):
    address = parse_url(text)
    assert not address.is_sqlite
    assert address.connect_arguments() == arguments
    assert address.holds_secret == ("password" in arguments)
    for shown in (str(address), repr(address), f"{address}"):
        assert "ss@" not in shown
        assert str(arguments.get("password", "***")) not in shown.replace(
            "***", "" if address.holds_secret else "***"
        )
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(address)


@pytest.mark.parametrize("name", ["a?b.db", "a%41.db", "a#b@c.db", "x=y.db", "a b.db", "./u:p@h.db"])
def test_a_path_means_itself(name, tmp_path, monkeypatch):
    from searcher.ledger.database import Database

    monkeypatch.chdir(tmp_path)
    assert parse_url(name).sqlite_path == name
    with Database.open(name, create=True) as database:
        assert database.optuna_storage.get_all_studies() == []
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {name.removeprefix("./")}


@pytest.mark.parametrize("end", ["\r", "\n", " ", "\r\n", "\ufeff"])
def test_what_surrounds_a_setting_is_no_part_of_it(end, monkeypatch, tmp_path):
    monkeypatch.setenv("SEARCHER_DB", f"\ufeffsearcher.db{end}")
    assert without_frame(f"x{end}") == "x"
    assert read_setting("SEARCHER_DB") == "searcher.db"

    class Args:
        db = None

    assert database_address(Args()).sqlite_path == "searcher.db"
    assert take_setting("SEARCHER_DB") is None, "it has left the environment"
    (tmp_path / "db.txt").write_bytes(f"\ufeffpostgresql://u:pw@h/x{end}".encode())
    Args.db = f"@{tmp_path / 'db.txt'}{end}"
    assert str(database_address(Args())) == "postgresql+psycopg://u:***@h/x"


def test_an_option_that_postgresql_does_not_know_is_named_where_no_password_is_near():
    with pytest.raises(DatabaseError, match=r"must have only options that PostgreSQL knows .* got sslmod;"):
        parse_url("postgresql://u@h/x?sslmod=require")


@pytest.mark.parametrize("mark", ["\u00a0", "\u200b", "\u202a", "\u2028", "\u3000", "\ufeff", "\r", "\x85"])
def test_what_nobody_sees_around_a_setting_makes_no_second_database(mark, monkeypatch):
    monkeypatch.setenv("SEARCHER_DB", f"{mark}study ü.db{mark}")
    assert read_setting("SEARCHER_DB") == "study ü.db"
    assert parse_url(f"{mark}study ü.db{mark}").sqlite_path == "study ü.db"


def test_a_path_longer_than_the_system_takes_is_one_line(tmp_path):
    with pytest.raises(DatabaseError, match="must be a path that can be read: File name too long"):
        Database.open(str(tmp_path / ("x" * 300)))
