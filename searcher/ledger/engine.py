"""Connecting to the study database: SQLite by default, PostgreSQL on a cluster."""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger.outage import is_outage

__all__ = [
    "connect",
    "engine_options",
    "holds_secret",
    "masked",
    "only_reading",
    "parse_url",
    "probe",
    "reason",
    "write_ahead",
]

BUSY_TIMEOUT_S = 5
"""How long one statement waits for another process's lock on SQLite. The driver waits longer, and says so."""

_POSTGRES_OPTIONS = {
    "connect_timeout": 10,
    # A server that vanished without a word (its host lost power, a cable) is noticed within a minute.
    # A healthy query may take as long as it likes: its server answers the probes.
    "keepalives": 1,
    "keepalives_idle": 20,  # seconds, as the next
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,  # milliseconds
}

_NETWORK_FILE_SYSTEMS = re.compile(r"nfs|cifs|smb|sshfs|lustre|ceph|gluster|beegfs|gpfs|9p", re.IGNORECASE)


def parse_url(text: str) -> URL:
    """Return the database URL for `--db` or `SEARCHER_DB`: a URL, or the path of an SQLite file.

    Raises:
        DatabaseError: Neither.
    """
    if "://" not in text:
        text = f"sqlite:///{text}"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # whose message may hold half a password
        raise DatabaseError(
            "--db: must be a path or a URL like postgresql://user@host/name, got something else; "
            "write special characters of a password as %40 and the like"
        ) from None
    if "@" in (url.host or ""):
        raise DatabaseError(
            "--db: must have one @ before the host, got more; write those of a password as %40"
        )
    if "password" in url.query:  # where masking would not find it
        url = url.set(password=str(url.query["password"])).difference_update_query(["password"])
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise DatabaseError(
            f"--db {masked(url)}: must be SQLite or PostgreSQL, got {url.drivername}; "
            "use a file path or postgresql://user@host/name"
        )
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise DatabaseError("--db sqlite://: must name a file, got a database in memory; give a path")
    return url


def holds_secret(text: str) -> bool:
    """Return whether a database URL, for `--db` or `SEARCHER_DB`, has a password in it.

    Raises:
        DatabaseError: It is no such URL.
    """
    url = parse_url(text)
    return bool(url.password) or any(_is_secret(key) for key in url.query)


def masked(url: URL) -> str:
    """Return the URL as text with its passwords hidden."""
    hidden = {key: "hidden" for key in url.query if _is_secret(key)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _is_secret(key: str) -> bool:
    """Return whether an option of the URL is a password: `sslpassword` is one, `passfile` names a file."""
    return "password" in key.lower()


def connect(url: URL, *, create: bool) -> Engine:
    """Return an engine that has reached its database.

    Args:
        url: From `parse_url`.
        create: Make an SQLite file that does not exist. Without it, a missing file is an error, so that a
            command that only reads leaves no empty database behind.

    Raises:
        DatabaseError: The database cannot be reached or used; the password is masked.
    """
    if url.drivername == "sqlite":
        _check_sqlite_file(url, create=create)
    engine = sa.create_engine(url, **engine_options(url))
    if url.drivername == "sqlite":
        _prepare_sqlite(engine)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SQLAlchemyError as error:
        engine.dispose()
        kind = DatabaseAwayError if is_outage(error) else DatabaseError
        raise kind(f"--db {masked(url)}: must be reachable: {reason(error, url)}") from None
    return engine


def write_ahead(engine: Engine) -> None:
    """Make an SQLite file keep a write-ahead log, so that readers never block the driver; kept in the file.

    Raises:
        SQLAlchemyError: The file is locked by others all the time.
    """
    if engine.dialect.name != "sqlite":
        return
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
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


def only_reading(engine: Engine) -> None:
    """Make the database refuse whatever an engine would write, from now on.

    SQLite's `query_only` and not its `mode=ro`: a file with a write-ahead log that no writer has open at the moment
    could not be opened so.
    """
    engine.dispose()  # of connections that were made before

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.rollback()  # of what the dialect asked of the server when it connected
            connection.read_only = True


def probe(url: URL) -> None:
    """Check that a database can be created or reached, without creating it.

    Raises:
        DatabaseError: It cannot.
    """
    if url.drivername == "sqlite":
        _check_sqlite_file(url, create=True)
    else:
        connect(url, create=False).dispose()


def engine_options(url: URL) -> dict[str, Any]:
    """Return the keyword arguments that every engine on this database is made with, Optuna's too.

    What the URL itself says, such as `?connect_timeout=3`, goes first. Values that are written show in no message.
    """
    if url.drivername == "sqlite":
        options, ours = {}, {"timeout": BUSY_TIMEOUT_S}
    else:
        options, ours = {"pool_pre_ping": True}, _POSTGRES_OPTIONS
    connect_args = {name: value for name, value in ours.items() if name not in url.query}
    return {"hide_parameters": True, "connect_args": connect_args, **options}


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    path = Path(str(url.database)).absolute()
    if not path.exists() and not create:
        raise DatabaseError(f"--db {path}: the database must exist; launch a study first, or check the path")
    if not path.parent.is_dir():
        raise DatabaseError(f"--db {path}: its folder must exist; create {path.parent}")
    if path.is_dir():
        raise DatabaseError(f"--db {path}: must be a file, got a folder; add a file name such as searcher.db")
    if path.exists():
        _check_is_sqlite(path)
    file_system = _file_system(path.parent)
    if _NETWORK_FILE_SYSTEMS.search(file_system):
        raise DatabaseError(
            f"--db {path}: SQLite must lie on a local disk, got {file_system}, whose locks cannot be trusted; "
            "use a local path or PostgreSQL"
        )


def _check_is_sqlite(path: Path) -> None:
    """Let SQLite look at the file.

    Never open it in any other way: closing such a handle takes away the locks that this process's connections hold
    on the file, and another process may then remove the write-ahead log under them
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            rule = "must be an SQLite database, got another kind of file; check the path"
        elif error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN:
            rule = "must be readable; check its permissions"
        else:  # such as a lock, which the first real statement waits for
            return
        raise DatabaseError(f"--db {path}: {rule}") from None


def _file_system(folder: Path) -> str:
    mounts = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounts[str(place)] for place in [folder, *folder.parents] if str(place) in mounts), "")


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


def reason(error: Exception, url: URL) -> str:
    """Return the database's own words in one line, without the password."""
    cause = (
        error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
    )  # Optuna wraps its errors
    original = getattr(cause, "orig", None) or cause
    text = " ".join(str(original).split())
    options = [str(value) for key, value in url.query.items() if _is_secret(key)]
    for secret in filter(None, [str(url.password or ""), *options]):
        for written in (secret, quote(secret, safe="")):
            text = text.replace(written, "***")
    return text
