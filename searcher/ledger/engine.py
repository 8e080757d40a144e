"""Connecting to the study database: SQLite by default, PostgreSQL on a cluster."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger import guard
from searcher.ledger.address import DatabaseAddress, holds_secret, parse_url
from searcher.ledger.outage import is_outage
from searcher.ledger.sqlite_file import check_file, reading_uri

__all__ = [
    "bare_url",
    "connect",
    "engine_arguments",
    "holds_secret",
    "only_reading",
    "parse_url",
    "probe",
    "reason",
    "write_ahead",
]

_POSTGRES_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    # Of a server in SQL_ASCII, texts would come as bytes.
    "client_encoding": "utf8",
    # A server that vanished without a word (its host lost power, a cable) is noticed within a minute.
    # A healthy query may take as long as it likes: its server answers the probes.
    "keepalives": 1,
    "keepalives_idle": 20,  # seconds, as the next
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,  # milliseconds
}


def connect(address: DatabaseAddress, *, create: bool) -> Engine:
    """Return an engine, after reaching the database once.

    Args:
        address: Address of the database, from `parse_url`.
        create: Whether to create a missing SQLite file. Without it, a missing file is an error, so that a command that
            only reads creates no empty database.

    Raises:
        DatabaseError: The database cannot be used; the message shows no password. If it cannot be reached now, the
            error is a DatabaseAwayError.
    """
    if address.is_sqlite:
        check_file(_path(address), create=create)
    engine = sa.create_engine(bare_url(address), **engine_arguments(address))
    if address.is_sqlite:
        _prepare_sqlite(engine)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SQLAlchemyError as error:
        engine.dispose()
        kind = DatabaseAwayError if is_outage(error) else DatabaseError
        raise kind(f"--db {address}: must be reachable: {reason(error, address)}") from None
    except DatabaseError:
        engine.dispose()
        raise
    return engine


def bare_url(address: DatabaseAddress) -> str:
    """Return the URL for creating engines: it only names the kind of database, without address or password."""
    return f"sqlite:///{quote(str(_path(address)))}" if address.is_sqlite else "postgresql+psycopg://"


def engine_arguments(address: DatabaseAddress) -> dict[str, Any]:
    """Return the keyword arguments for creating engines on a database, Optuna's engine included.

    The engine itself contains no address, and so no password. Options in the address, such as `?connect_timeout=3`,
    override ours. Values that are written appear in no message.
    """
    arguments: dict[str, Any] = {"creator": _creator(address), "hide_parameters": True}
    return arguments if address.is_sqlite else arguments | {"pool_pre_ping": True}


def only_reading(engine: Engine) -> None:
    """Make the database refuse all writes through an engine from now on.

    SQLite's `query_only`, not its `mode=ro`: that cannot open a file with a write-ahead log that no writer has open.
    """
    engine.dispose()  # of connections that were made before

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.rollback()  # of what the dialect asked of the server when it connected
            connection.read_only = True


def write_ahead(engine: Engine) -> None:
    """Switch an SQLite file to a write-ahead log, so that readers never block the driver. The setting is stored.

    Raises:
        SQLAlchemyError: Other processes keep the file locked.
    """
    if engine.dialect.name != "sqlite":
        return
    give_up_at = time.monotonic() + guard.BUSY_TIMEOUT_S
    with engine.connect() as connection:
        raw = connection.connection.cursor()
        # SQLite does not wait here itself where two processes that switch at once could wait for each other.
        while raw.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                raw.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if not is_outage(error) or time.monotonic() > give_up_at:
                    raise sa.exc.OperationalError("PRAGMA journal_mode=WAL", None, error) from None
                time.sleep(0.02)


def probe(address: DatabaseAddress) -> None:
    """Check that a database can be created or reached, without creating it.

    Raises:
        DatabaseError: The database can be neither created nor reached.
    """
    if address.is_sqlite:
        check_file(_path(address), create=True)
    else:
        connect(address, create=False).dispose()


def reason(error: BaseException, address: DatabaseAddress) -> str:
    """Return the database's error message in one line, without the password."""
    cause = (
        error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
    )  # Optuna wraps its errors
    original = getattr(cause, "orig", None) or cause
    if getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
        return "this user may only read it, or its disk is read-only; change that, or copy the database"
    return address.without_secrets(" ".join(str(original).split()))


def _prepare_sqlite(engine: Engine) -> None:
    """Take the write lock when a write begins, not at its first statement, and check references.

    The driver module's own transaction handling begins too late for that (SQLAlchemy documents this recipe).
    """

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _path(address: DatabaseAddress) -> Path:
    return Path(address.sqlite_path).absolute()


def _creator(address: DatabaseAddress) -> Callable[[], Any]:
    """Return what makes a connection: the only place that has the password."""
    arguments = address.connect_arguments()
    if not address.is_sqlite:
        ours = {name: value for name, value in _POSTGRES_OPTIONS.items() if name not in arguments}
        import psycopg  # parse_url has seen that the extra is there

        return lambda: psycopg.connect(**arguments, **ours)
    path = _path(address)
    timeout_s = arguments.pop("timeout", guard.BUSY_TIMEOUT_S)

    def connect_to_file() -> Any:
        read_only = None if arguments.get("uri") else reading_uri(path)
        if read_only is not None:
            return sqlite3.connect(read_only, timeout=timeout_s, **(arguments | {"uri": True}))
        return sqlite3.connect(str(path), timeout=timeout_s, **arguments)

    return connect_to_file
