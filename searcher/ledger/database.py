"""The study database: opening it, and reading what it says of studies and trials."""

import difflib
import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import optuna
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from searcher.exceptions import DatabaseAwayError, DatabaseError, StudyConflictError, UnknownStudyError
from searcher.ledger import engine as engines
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.clock import database_now
from searcher.ledger.guard import Guard
from searcher.ledger.liveness import driver_is_gone
from searcher.ledger.lock_holder import lock_holder
from searcher.ledger.migrations import check_revision, upgrade
from searcher.ledger.optuna_tables import are_of_this_optuna, open_optuna_storage
from searcher.ledger.optuna_trials import count_states, find_study, read_directions, read_results, read_trials
from searcher.ledger.outage import is_lock, is_outage
from searcher.ledger.records import CheckpointRecord, LaunchRecord, ResultRecord, StudyRecord, TrialRecord
from searcher.ledger.tables import CheckpointRow, EpochRow, LaunchRow, StudyRow
from searcher.study.objectives import Direction

__all__ = ["Database", "checkpoint_record", "value_of"]

logger = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Database:
    """The one truth of all studies. Held by the driver and by commands; never sent to a worker.

    Use as a context manager, or `close` it. Safe to use from several threads.
    """

    def __init__(self, address: DatabaseAddress, engine: Engine, *, may_write: bool = True) -> None:
        self.address = address
        self.engine = engine
        self.guard = Guard(address)
        self.guard.opened()
        self.guard.attach(engine)
        self._may_write = may_write
        self._has_checked_optunas_tables = False

    @classmethod
    def open(cls, address: DatabaseAddress | str, *, create: bool = False, may_write: bool = True) -> Self:
        """Return the open database.

        Args:
            address: Where it lies, or the text that says so.
            create: Make the file and the tables where they are missing, and upgrade those of an older version.
            may_write: Whether anything can be written; without it the database itself refuses, Optuna's writing
                too. For whoever hands the database on to code that is not ours.

        Raises:
            DatabaseError: It cannot be reached or used, or holds no studies and must not be created, or was written
                by another version: a newer one always, an older one unless `create`. Nothing is changed then.
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
        """Check, without creating anything, that a study can be written here.

        Raises:
            DatabaseError: It cannot be reached or used.
        """
        engines.probe(engines.parse_url(address))

    @cached_property
    def optuna_storage(self) -> optuna.storages.RDBStorage:
        """Optuna's view of the same database.

        Raises:
            DatabaseError: Its tables are missing, or of another version of Optuna.
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
        """Give back all connections."""
        self.engine.dispose()
        if "optuna_storage" in self.__dict__:
            self.optuna_storage.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a Database is not pickled: it would carry its password to a worker")

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Run one transaction that writes; commits at the end, rolls back on an error.

        Raises:
            DatabaseError: The database refuses, or is away.
        """
        engine = self.engine.execution_options(writes=True)
        with self.errors("written"), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Run one transaction that only reads.

        Raises:
            DatabaseError: The database refuses, or is away.
        """
        with self.errors("read"), Session(self.engine) as session:
            yield session

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn whatever SQLAlchemy and Optuna raise inside into one line.

        Args:
            what: What failed, such as `written`.

        Raises:
            DatabaseAwayError: The database is away, locked or full now, and may be back later.
            DatabaseError: It refuses.
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
            DatabaseAwayError: It is away or locked.
        """
        with self.write() as session:
            session.execute(sa.text("SELECT 1"))

    # ---- reading ---------------------------------------------------------------------------------------

    def study_names(self) -> list[str]:
        """Return the names of all studies, oldest first."""
        with self.read() as session:
            return list(session.scalars(sa.select(StudyRow.name).order_by(StudyRow.id)))

    def storage_roots(self) -> list[str]:
        """Return the studies' storage roots, folders and URIs, that of the newest study first, each once."""
        with self.read() as session:
            roots = session.scalars(sa.select(StudyRow.storage_root).order_by(StudyRow.id.desc()))
            return list(dict.fromkeys(roots))

    def study_row(self, name: str) -> StudyRow:
        """Return a study's row.

        Raises:
            UnknownStudyError: There is no such study; the message names the nearest.
        """
        with self.read() as session:
            row = session.scalar(sa.select(StudyRow).where(StudyRow.name == name))
        if row is not None:
            return row
        names = self.study_names()
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]}?" if close else f"known: {', '.join(names) or 'none yet'}"
        raise UnknownStudyError(f"--study {name}: must be a study of {self.address}; {remedy}")

    def study(self, name: str) -> StudyRecord:
        """Return how far a study is.

        Raises:
            UnknownStudyError: There is no such study.
        """
        row = self.study_row(name)
        optuna_id = self.optuna_study_id(name)
        with self.read() as session:
            counts = count_states(session.connection(), optuna_id)
            newest = (
                sa.select(LaunchRow, database_now())
                .where(LaunchRow.study_id == row.id)
                .order_by(LaunchRow.id.desc())
                .limit(1)
            )
            launch = session.execute(newest).one_or_none()
        return StudyRecord(
            name=row.name,
            objective=row.objective,
            also=tuple(filter(None, str(row.identity.get("study.also", "")).split(", "))),
            directions=tuple(self.directions(name)),
            budget=row.budget,
            data_source=row.data_source,
            data_fingerprint=row.data_fingerprint,
            storage_root=row.storage_root,
            spec_text=row.spec_text,
            created_at=row.created_at,
            counts=counts,
            last_launch=None if launch is None else _launch_record(*launch),
        )

    def results(self, name: str) -> list[ResultRecord]:
        """Return what the COMPLETE trials of a study had and reached, by number; much less to read than `trials`.

        Raises:
            UnknownStudyError: There is no such study.
        """
        self.study_row(name)
        optuna_id = self.optuna_study_id(name)
        with self.read() as session:
            return read_results(session.connection(), optuna_id)

    def trials(self, name: str, numbers: Collection[int] | None = None) -> list[TrialRecord]:
        """Return trials of a study with all that is known of them, by number.

        Args:
            name: The study.
            numbers: Which; None for all. One that the study does not have is left out.

        Raises:
            UnknownStudyError: There is no such study.
        """
        study_id = self.study_row(name).id
        optuna_id = self.optuna_study_id(name)

        def chosen(table: type[EpochRow] | type[CheckpointRow]) -> sa.ColumnElement[bool]:
            is_of_study = table.study_id == study_id
            return is_of_study if numbers is None else sa.and_(is_of_study, table.trial.in_(numbers))

        with self.read() as session:
            frozen = read_trials(session.connection(), optuna_id, numbers=numbers, in_utc=True)
            epochs: dict[int, dict[int, dict[str, float]]] = {}
            by_epoch = sa.select(EpochRow.trial, EpochRow.epoch, EpochRow.metrics).order_by(EpochRow.epoch)
            for number, epoch, metrics in session.execute(by_epoch.where(chosen(EpochRow))):
                epochs.setdefault(number, {})[epoch] = metrics
            checkpoints: dict[int, dict[str, CheckpointRecord]] = {}
            for written in session.scalars(sa.select(CheckpointRow).where(chosen(CheckpointRow))):
                checkpoints.setdefault(written.trial, {})[written.kind] = checkpoint_record(written)
        return [
            _trial_record(trial, epochs.get(trial.number, {}), checkpoints.get(trial.number, {}))
            for trial in frozen
        ]

    def checkpoint_with(self, sha256: str) -> CheckpointRecord | None:
        """Return the checkpoint with a digest, of whichever study; None if none is recorded."""
        with self.read() as session:
            query = sa.select(CheckpointRow).where(CheckpointRow.sha256 == sha256)
            row = session.scalar(query.order_by(CheckpointRow.removed_at.is_not(None), CheckpointRow.id))
        return None if row is None else checkpoint_record(row)

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return what each launch of a study ran with, oldest first."""
        study_id = self.study_row(name).id
        with self.read() as session:
            query = sa.select(LaunchRow.versions).where(LaunchRow.study_id == study_id)
            return list(session.scalars(query.order_by(LaunchRow.id)))

    def optuna_study_id(self, name: str) -> int:
        """Return Optuna's own number of a study that is in our tables.

        Raises:
            StudyConflictError: It was deleted from Optuna's tables, by its dashboard or a script.
        """
        self._check_optunas_tables()
        with self.read() as session:
            found = find_study(session.connection(), name)
        if found is None:
            raise StudyConflictError(
                f"--study {name}: must be in Optuna's tables too, but was deleted from them, its trials with it; "
                "restore a backup of the database, or launch under another name with --set study.name=NAME"
            )
        return found

    def _check_optunas_tables(self) -> None:
        """Check that Optuna's tables can be read; its storage, half a second to open, says it where they cannot."""
        if self._has_checked_optunas_tables:
            return
        with self.read() as session:
            self._has_checked_optunas_tables = are_of_this_optuna(session.connection())
        if not self._has_checked_optunas_tables:
            self.optuna_storage  # noqa: B018  which is opened when it is needed

    def directions(self, name: str) -> list[Direction]:
        """Return the directions of a study's objectives.

        Raises:
            StudyConflictError: It was deleted from Optuna's tables.
        """
        study_id = self.optuna_study_id(name)
        with self.read() as session:
            found = read_directions(session.connection(), study_id)
        return ["maximize" if each == StudyDirection.MAXIMIZE else "minimize" for each in found]


def value_of(trial: FrozenTrial) -> float | None:
    """Return a trial's objective, the first where there are several; of a pruned trial that of its last epoch."""
    if trial.values is not None:
        return float(trial.values[0])
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        last = float(trial.intermediate_values[trial.last_step])
        return last if math.isfinite(last) else None
    return None


def _trial_record(
    trial: FrozenTrial, epochs: dict[int, dict[str, float]], checkpoints: dict[str, CheckpointRecord]
) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,
        params=trial.params,
        value=value_of(trial),
        values=tuple(trial.values or ()),
        epochs=epochs,
        notes=trial.user_attrs,
        checkpoints=checkpoints,
        started_at=trial.datetime_start,
        ended_at=trial.datetime_complete,
    )


def checkpoint_record(row: CheckpointRow) -> CheckpointRecord:
    """Return a checkpoint's row as plain values."""
    return CheckpointRecord(
        kind=row.kind,
        epoch=row.epoch,
        uri=row.uri,
        sha256=row.sha256,
        num_bytes=row.num_bytes,
        value=row.value,
        problem=row.problem,
        is_removed=row.removed_at is not None,
    )


def _launch_record(row: LaunchRow, now: datetime) -> LaunchRecord:
    return LaunchRecord(
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        renewed_at=row.renewed_at,
        ended_at=row.ended_at,
        outcome="lost" if row.ended_at is None and driver_is_gone(row, now) else row.outcome,
        job=row.job,
    )
