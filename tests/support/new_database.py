"""Databases with tables and no study, in a hundredth of a second: the tables are made once a process, then copied."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import sqlalchemy as sa

from searcher.ledger.database import Database

__all__ = ["create_postgres_database", "new_database"]


def new_database(path: Path | str) -> Database:
    """Return a new SQLite database, open; what `Database.open(path, create=True)` makes, without the migrations.

    Args:
        path: Where it is to lie; nothing may be there.
    """
    assert not Path(path).exists()
    shutil.copyfile(_sqlite_template(), path)
    return Database.open(str(path))


def create_postgres_database(server_url: str, name: str, *, with_tables: bool) -> str:
    """Make a database of a name, in place of one that is there, and return its URL.

    Args:
        server_url: Of the server's maintenance database.
        name: Of the new one.
        with_tables: Whether it holds what `Database.open(url, create=True)` makes; else it is empty.
    """
    template = f" TEMPLATE {_postgres_template(server_url)}" if with_tables else ""
    _execute(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}{template}")
    return _url(server_url, name)


@functools.cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Database.open(str(folder / "template.db"), create=True).close()
    return folder / "template.db"


@functools.cache
def _postgres_template(server_url: str) -> str:
    name = f"template_{os.getpid()}"
    Database.open(create_postgres_database(server_url, name, with_tables=False), create=True).close()
    return name


def _url(server_url: str, name: str) -> str:
    url = sa.make_url(server_url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


def _execute(server_url: str, *statements: str) -> None:
    url = sa.make_url(server_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()
