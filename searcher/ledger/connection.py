"""Opening the study database, and its transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Self

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from searcher.exceptions import DatabaseAwayError, DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.guard import TransactionGuard
from searcher.ledger.lock_holder import lock_holder
from searcher.ledger.migrations import check_revision, upgrade
from searcher.ledger.optuna_tables import open_optuna_storage
from searcher.ledger.outage import is_lock, is_outage
from searcher.ledger.tables import StudyRow

__all__ = ["Connection"]

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Connection:
    """An open study database, with its transactions. Errors are one line. It is never sent to a worker.

    Use as a context manager, or `close` it. Safe to use from several threads.
    """

    def __init__(self, address: DatabaseAddress, engine: Engine, *, may_write: bool = True) -> None:
        self.address = address
        self.engine = engine
        self.guard = TransactionGuard(address)
        self.guard.opened()
        self.guard.attach(engine)
        self._may_write = may_write

    @classmethod
    def open(cls, address: DatabaseAddress | str, *, create: bool = False, may_write: bool = True) -> Self:
        """Return an open connection to a database.

        Args:
            address: The database's address, or its text.
            create: Whether to create missing files and tables, and to upgrade tables of an older version.
            may_write: Whether writes are allowed. Without it the database refuses all writes, even Optuna's. Use it if
                code of others gets the database.

        Raises:
            DatabaseError: The database cannot be reached or used, has no studies and must not be created, or was
                written by a newer version (or by an older one, and `create` is off). Nothing is changed then.
        """
        assert may_write or not create
        address = engines.parse_url(address)
        database = cls(address, engines.connect(address, create=create), may_write=may_write)
        if not may_write:
            engines.only_reading(database.engine)
        try:
            with database.errors("opened"):
                check_revision(database.engine, where=f"--db {address}", may_upgrade=create)
                if create:
                    engines.write_ahead(database.engine)
                    database.optuna_storage = database._open_storage(create=True)
                    upgrade(database.engine)
        except BaseException:
            database.close()
            raise
        return database

    @staticmethod
    def probe(address: DatabaseAddress | str) -> None:
        """Check that a study could be written to a database, without creating anything.

        Raises:
            DatabaseError: The database cannot be reached or used.
        """
        engines.probe(engines.parse_url(address))

    @cached_property
    def optuna_storage(self) -> optuna.storages.RDBStorage:
        """Optuna's storage on the same database.

        Raises:
            DatabaseError: Optuna's tables are missing, or of another version of Optuna.
        """
        with self.errors("read"):
            storage = self._open_storage(create=False)
        if not self._may_write:
            engines.only_reading(storage.engine)
        return storage

    def _open_storage(self, *, create: bool) -> optuna.storages.RDBStorage:
        storage = open_optuna_storage(self.address, create=create)
        self.guard.attach(storage.engine)
        return storage

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if "optuna_storage" in self.__dict__:
            self.optuna_storage.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a Database is not pickled: it would carry its password to a worker")

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Context manager for a transaction that writes: commits at the end, rolls back on an error.

        Raises:
            DatabaseError: The database refuses, or cannot be reached.
        """
        engine = self.engine.execution_options(writes=True)
        with self.errors("written"), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Context manager for a transaction that only reads.

        Raises:
            DatabaseError: The database refuses, or cannot be reached.
        """
        with self.errors("read"), Session(self.engine) as session:
            yield session

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Context manager that turns errors of SQLAlchemy and Optuna into errors of ours, one line each.

        Args:
            what: The failed action in the message, such as `written`.

        Raises:
            DatabaseAwayError: The database cannot be reached, is locked or is full now, and may be back later.
            DatabaseError: The database refuses.
        """
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            where = f"--db {self.address}"
            reason = engines.reason(error, self.address)
            if is_lock(error):
                reason = reason if self.address.is_sqlite else "another session has locked its tables or rows"
                holder = lock_holder(self.engine, self.address)
                reason = f"{reason}; {holder}" if holder else reason
            if is_outage(error):
                raise DatabaseAwayError(f"{where}: is away: {reason}") from None
            raise DatabaseError(f"{where}: could not be {what}: {reason}") from None

    def ping(self) -> None:
        """Check that the database can be written now.

        Raises:
            DatabaseAwayError: The database cannot be reached, or is locked.
        """
        with self.write() as session:
            session.execute(sa.text("SELECT 1"))

    def check_writable(self) -> None:
        """Check that this user may write to the database, before work whose result is written to it.

        Raises:
            DatabaseError: User or disk may only read, or the database cannot be reached.
        """
        with self.write() as session:  # no row is changed, but the database asks for every permission
            session.execute(sa.update(StudyRow).where(sa.false()).values(name=StudyRow.name))
