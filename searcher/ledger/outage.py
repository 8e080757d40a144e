"""Distinguishes a database that is temporarily away from a request that it will refuse again."""

import sqlite3
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy.exc

if TYPE_CHECKING:
    import psycopg

__all__ = ["is_lock", "is_outage", "postgres_error"]

_SQLITE_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,  # also when the process has no file handle left
        sqlite3.SQLITE_PROTOCOL,  # too many processes open the write-ahead log at once
    }
)
"""Primary result codes; the low byte of an extended one."""

_POSTGRES_PASSING = (
    "08",  # connection exceptions
    "25006",  # read-only transaction: a server that was demoted, or protects itself from a full disk
    "25P03",  # idle in a transaction for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53",  # out of disk, memory or connections
    "55P03",  # lock not available
    "57014",  # query cancelled
    "57P01",  # terminated by the administrator
    "57P02",  # another server process crashed
    "57P03",  # starting up, shutting down or recovering
    "57P05",  # idle session timeout
    "58030",  # input/output error
)
"""SQLSTATEs and classes of them; https://www.postgresql.org/docs/current/errcodes-appendix.html."""

_IN_FAILED_TRANSACTION, _DEADLOCK, _LOCK_NOT_AVAILABLE = "25P02", "40P01", "55P03"

_POSTGRES_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "rejects connection",
    "permission denied",
    "not permitted to log in",
    "not currently accepting connections",
    "unsupported frontend protocol",
    "does not support ssl",
    "certificate",
    "private key",
    "invalid connection option",
    "invalid port",
)
"""Messages of a failed connection when the next one will fail too. libpq gives no SQLSTATE here, only words. A server
in another language sends other words, which are not recognised: the driver then waits and shows them, which is the
safer error."""


def is_lock(error: BaseException) -> bool:
    """Return whether an error means that another process holds a lock on the database."""
    return any(
        _sqlstate(link) in (_LOCK_NOT_AVAILABLE, _DEADLOCK)
        or (
            isinstance(link, sqlite3.Error)
            and getattr(link, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        )
        for link in _chain(error)
    )


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that the database cannot be reached, is locked or is full now, but may recover.

    The errors wrapped in the error are examined too: SQLAlchemy's, Optuna's `StorageInternalError`, our
    `DatabaseError`. The outermost one that is clear decides. A violated constraint is no outage, even if it occurred
    while an outage was handled. Wrong passwords, unknown databases and programming errors are none.
    """
    verdicts = (_verdict(link) for link in _chain(error))
    return next((verdict for verdict in verdicts if verdict is not None), False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, the outermost first."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        wrapped = (
            link.__context__,
            link.__cause__,
            getattr(link, "orig", None),
        )  # the last is looked at first
        waiting.extend(inner for inner in wrapped if isinstance(inner, BaseException))


def _verdict(error: BaseException) -> bool | None:
    """Return the verdict of one error of the chain, None if it has none."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _SQLITE_PASSING
    if _sqlstate(error) == _IN_FAILED_TRANSACTION:  # what failed before says why
        return None
    of_postgres = postgres_error(error)
    if of_postgres is not None:
        return _postgres_verdict(of_postgres)
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return True if error.connection_invalidated else None
    if isinstance(error, sqlalchemy.exc.TimeoutError):  # all connections of the pool are in use
        return True
    if isinstance(error, sqlalchemy.exc.PendingRollbackError) and error.code == "8s2b":
        return True  # a lost connection was used again before its transaction was rolled back
    return None


def postgres_error(error: BaseException) -> "psycopg.Error | None":
    """Return an error as an error of psycopg, if it is one; None for any other. psycopg is optional."""
    driver = sys.modules.get("psycopg")  # what was never imported raised nothing
    if driver is None or not isinstance(error, driver.Error):
        return None
    found: psycopg.Error = error
    return found


def _sqlstate(error: BaseException) -> str | None:
    found = postgres_error(error)
    return None if found is None else found.sqlstate


def _postgres_verdict(error: "psycopg.Error") -> bool:
    import psycopg

    if error.sqlstate is not None:
        return error.sqlstate.startswith(_POSTGRES_PASSING)
    if not isinstance(error, psycopg.OperationalError):
        return False
    text = str(error).lower()
    return not any(words in text for words in _POSTGRES_REFUSALS)
