"""Optuna's own tables, beside ours in the same database."""

import copy
import logging
import random
import sqlite3
import time
from collections.abc import Container
from functools import cache
from pathlib import Path

import optuna
import psycopg
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from optuna.storages import _rdb
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.optuna_trials import read_trials

__all__ = ["open_optuna_storage"]

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 20


class _Storage(optuna.storages.RDBStorage):
    """Optuna's storage, which would carry its connections' password into a pickle, and reads many trials slowly."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return a study's trials as Optuna does, in a quarter of the time.

        Raises:
            KeyError: There is no such study.
        """
        with self.engine.connect() as connection:
            trials = read_trials(connection, study_id, states=states)
        if not trials:
            self.get_study_name_from_id(study_id)
        return copy.deepcopy(trials) if deepcopy else trials

    def __reduce__(self) -> str:
        raise TypeError("Optuna's storage is not pickled: it would carry its password to a worker")


def open_optuna_storage(address: DatabaseAddress, *, create: bool) -> optuna.storages.RDBStorage:
    """Return Optuna's view of a database.

    Args:
        address: From `parse_url`.
        create: Make Optuna's tables where they are missing.

    Raises:
        DatabaseError: The tables are of another version of Optuna.
        SQLAlchemyError, StorageInternalError: The database refuses, or is away.
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            storage = _storage(address, create=create, checks=False)
            if storage.get_current_version() == _this_optunas_revision():
                return storage
            storage.engine.dispose()
            return _storage(address, create=create, checks=True)  # which says what is wrong
        except RuntimeError as error:  # how Optuna says that the tables are of another version of it
            raise DatabaseError(
                f"--db {address}: must hold tables of this Optuna: {' '.join(str(error).split())}"
            ) from None
        except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Optuna looks whether its tables are there, and then makes them: of two that do so at once, one fails.
            if not create or attempt == _MAX_ATTEMPTS or not _somebody_was_faster(error):
                raise
            logger.debug("making Optuna's tables beside another process, trying again: %s", error)
            time.sleep(random.uniform(0.01, 0.1))
    raise AssertionError("the last attempt returns or raises")


def _storage(address: DatabaseAddress, *, create: bool, checks: bool) -> _Storage:
    return _Storage(
        engines.bare_url(address),
        engine_kwargs=engines.engine_arguments(address),
        skip_table_creation=not create,
        skip_compatibility_check=not checks,
    )


@cache
def _this_optunas_revision() -> str | None:
    """Return the revision of the tables of this Optuna, which reads all its migrations anew at each opening to know."""
    return ScriptDirectory(str(Path(_rdb.__file__).parent / "alembic")).get_current_head()


def _somebody_was_faster(error: Exception) -> bool:
    """Return whether an error says that what was to be made is there by now."""
    cause = error if isinstance(error, sa.exc.SQLAlchemyError) else error.__cause__
    original = getattr(cause, "orig", None)
    if isinstance(original, psycopg.Error):
        return isinstance(
            original,
            psycopg.errors.DuplicateTable | psycopg.errors.DuplicateObject | psycopg.errors.UniqueViolation,
        )
    return isinstance(original, sqlite3.Error) and (
        isinstance(original, sqlite3.IntegrityError) or "already exists" in str(original)
    )
