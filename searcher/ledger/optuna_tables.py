"""Optuna's own tables, which share the database with ours."""

import logging
import random
import re
import sqlite3
import time
from collections.abc import Container
from functools import cache

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.optuna_internals import migrations_folder
from searcher.ledger.optuna_trials import read_trial, read_trials
from searcher.ledger.outage import postgres_error

__all__ = ["are_of_this_optuna", "open_optuna_storage"]

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 20
_POSTGRES_IS_THERE = ("42P07", "42710", "23505")
"""SQLSTATEs: duplicate table, duplicate object (an enumeration, say), unique violation."""


class _Storage(optuna.storages.RDBStorage):
    """Optuna's storage, which would carry its connections' password into a pickle, and reads trials slowly."""

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial with an id, like Optuna's own method.

        Raises:
            KeyError: There is no such trial.
        """
        with self.engine.connect() as connection:
            trial = read_trial(connection, trial_id)
        if trial is None:
            raise KeyError(f"there is no trial {trial_id} in Optuna's tables")
        return trial

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Return a study's trials after one, and those included: what Optuna reads when it reads several.

        Raises:
            KeyError: There is no such study.
        """
        with self.engine.connect() as connection:
            trials = read_trials(
                connection, study_id, states=states, ids=included_trial_ids, after_id=trial_id_greater_than
            )
        if not trials:
            self.get_study_name_from_id(study_id)
        return trials

    def __reduce__(self) -> str:
        raise TypeError("Optuna's storage is not pickled: it would carry its password to a worker")


def open_optuna_storage(address: DatabaseAddress, *, create: bool) -> optuna.storages.RDBStorage:
    """Return Optuna's storage on a database.

    Args:
        address: Address of the database, from `parse_url`.
        create: Whether to create missing tables.

    Raises:
        DatabaseError: The tables are of another version of Optuna.
        SQLAlchemyError, StorageInternalError: The database refuses, or cannot be reached.
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            storage = _storage(address, create=create, checks=False)
            if storage.get_current_version() == _newest_revision():
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


def are_of_this_optuna(connection: sa.Connection) -> bool:
    """Return whether Optuna's tables exist and have the revision of the installed Optuna."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    version = sa.table("alembic_version", sa.column("version_num", sa.String))
    return connection.scalar(sa.select(version.c.version_num)) == _newest_revision()


@cache
def _newest_revision() -> str:
    """Return the revision of this Optuna's tables, by the names of its migrations: `v3.2.0.a` of `v3.2.0.a_.py`.

    Optuna itself runs all of them to know, at each opening; a tenth of a second.
    """
    scripts = migrations_folder().glob("v*.py")
    return max((path.stem.rstrip("_") for path in scripts), key=_parts)


def _parts(revision: str) -> list[tuple[int, str]]:
    """Return a revision as what sorts: `v3.10.0.b` after `v3.2.0.a`."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.findall(r"\d+|[a-z]+", revision)]


def _somebody_was_faster(error: Exception) -> bool:
    """Return whether an error says that what was to be made is there by now."""
    cause = error if isinstance(error, sa.exc.SQLAlchemyError) else error.__cause__
    original = getattr(cause, "orig", None)
    of_postgres = None if original is None else postgres_error(original)
    if of_postgres is not None:
        return of_postgres.sqlstate in _POSTGRES_IS_THERE
    return isinstance(original, sqlite3.Error) and (
        isinstance(original, sqlite3.IntegrityError) or "already exists" in str(original)
    )
