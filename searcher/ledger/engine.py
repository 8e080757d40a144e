"""Connecting to the study database: SQLite by default, PostgreSQL on a cluster."""

import re
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from searcher.exceptions import DatabaseError

__all__ = ["connect", "engine_options", "masked", "parse_url", "probe"]

BUSY_TIMEOUT_S = 60
"""How long SQLite waits for another process's lock, e.g. a dashboard's."""

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


def masked(url: URL) -> str:
    """Return the URL as text with its password hidden."""
    return url.render_as_string(hide_password=True)


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
        _prepare_sqlite(engine, write_ahead=create)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(f"--db {masked(url)}: must be reachable: {_reason(error, url)}") from None
    return engine


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
    """Return the keyword arguments that every engine on this database is made with, Optuna's too."""
    if url.drivername == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    path = Path(str(url.database)).absolute()
    if not path.exists() and not create:
        raise DatabaseError(f"--db {path}: the database must exist; launch a study first, or check the path")
    if not path.parent.is_dir():
        raise DatabaseError(f"--db {path}: its folder must exist; create {path.parent}")
    if path.is_dir():
        raise DatabaseError(f"--db {path}: must be a file, got a folder; add a file name such as searcher.db")
    if path.exists() and _head(path) not in (b"", b"SQLite format 3\x00"):
        raise DatabaseError(
            f"--db {path}: must be an SQLite database, got another kind of file; check the path"
        )
    file_system = _file_system(path.parent)
    if _NETWORK_FILE_SYSTEMS.search(file_system):
        raise DatabaseError(
            f"--db {path}: SQLite must lie on a local disk, got {file_system}, whose locks cannot be trusted; "
            "use a local path or PostgreSQL"
        )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise DatabaseError(
            f"--db {path}: must be readable: {error.strerror}; check its permissions"
        ) from None


def _file_system(folder: Path) -> str:
    mounts = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounts[str(place)] for place in [folder, *folder.parents] if str(place) in mounts), "")


def _prepare_sqlite(engine: Engine, *, write_ahead: bool) -> None:
    """Write ahead, so that readers never block the driver, and take the write lock when a write begins.

    The driver module's own transaction handling begins too late for that (SQLAlchemy documents this recipe).
    """

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if write_ahead:  # kept in the file; a command that only reads changes no file, which may not be ours
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: SQLAlchemyError, url: URL) -> str:
    """Return the driver's own words in one line, without the password."""
    original = getattr(error, "orig", None) or error
    text = " ".join(str(original).split())
    if url.password:
        text = text.replace(str(url.password), "***")
    return text
