"""The study database: what it says of studies and trials."""

import math
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import StudyConflictError, UnknownStudyError
from searcher.ledger.clock import database_now
from searcher.ledger.connection import Connection
from searcher.ledger.liveness import driver_is_gone
from searcher.ledger.optuna_tables import are_of_this_optuna
from searcher.ledger.optuna_trials import count_states, find_study, read_directions, read_results, read_trials
from searcher.ledger.records import CheckpointRecord, LaunchRecord, ResultRecord, StudyRecord, TrialRecord
from searcher.ledger.tables import CheckpointRow, EpochRow, LaunchRow, StudyRow
from searcher.study.objectives import Direction
from searcher.suggestions import nearest

__all__ = ["Database", "checkpoint_record", "value_of"]


class Database(Connection):
    """The study database, which is the only record of all studies. Used by the driver and by commands.

    Use it as a context manager, or `close` it. Safe to use from several threads. It is never sent to a worker.
    """

    _has_checked_optunas_tables = False

    def study_names(self) -> list[str]:
        """Return the names of all studies, oldest first."""
        with self.read() as session:
            return list(session.scalars(sa.select(StudyRow.name).order_by(StudyRow.id)))

    def storage_roots(self) -> list[str]:
        """Return the storage roots of all studies, folders or URIs, each once, that of the newest study first."""
        with self.read() as session:
            roots = session.scalars(sa.select(StudyRow.storage_root).order_by(StudyRow.id.desc()))
            return list(dict.fromkeys(roots))

    def study_row(self, name: str) -> StudyRow:
        """Return the row of a study in our tables.

        Raises:
            UnknownStudyError: There is no such study; the message suggests a similar name.
        """
        with self.read() as session:
            row = session.scalar(sa.select(StudyRow).where(StudyRow.name == name))
        if row is not None:
            return row
        names = self.study_names()
        meant = nearest(name, names)
        remedy = f"did you mean {meant}?" if meant else f"known: {', '.join(names) or 'none yet'}"
        raise UnknownStudyError(f"--study {name}: must be a study of {self.address}; {remedy}")

    def study(self, name: str) -> StudyRecord:
        """Return a study with the number of its trials in each state and its last launch.

        Raises:
            UnknownStudyError: There is no such study.
        """
        row = self.study_row(name)
        optuna_id = self.optuna_study_id(name)
        with self.read() as session:
            counts = count_states(session.connection(), optuna_id)
            continued = count_states(session.connection(), optuna_id, with_note="continues")
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
            secondary_objectives=tuple(filter(None, str(row.identity.get("study.also", "")).split(", "))),
            directions=tuple(self.directions(name)),
            budget=row.budget,
            data_source=row.data_source,
            data_fingerprint=row.data_fingerprint,
            storage_root=row.storage_root,
            spec_text=row.spec_text,
            created_at=row.created_at,
            counts=counts,
            last_launch=None if launch is None else _launch_record(*launch),
            num_continued=continued.get("COMPLETE", 0) + continued.get("PRUNED", 0),
            num_going_on=continued.get("WAITING", 0) + continued.get("RUNNING", 0),
        )

    def launched_before_s(self, name: str) -> float:
        """Return the total duration of a study's launches in seconds, without the newest.

        Raises:
            UnknownStudyError: There is no such study.
        """
        study_id = self.study_row(name).id
        times = sa.select(LaunchRow.started_at, LaunchRow.renewed_at, LaunchRow.ended_at, LaunchRow.outcome)
        with self.read() as session:
            rows = session.execute(times.where(LaunchRow.study_id == study_id).order_by(LaunchRow.id)).all()
        ends = [
            ended if outcome in ("finished", "interrupted", "failed") else None for *_, ended, outcome in rows
        ]
        took = [
            (ended or renewed) - started  # a lost driver took as long as it gave signs of life
            for (started, renewed, *_), ended in zip(rows[:-1], ends[:-1], strict=True)
        ]
        return sum((max(0.0, each.total_seconds()) for each in took), 0.0)

    def detached_launches(self) -> list[tuple[str, LaunchRecord]]:
        """Return all launches submitted as Ray jobs, running or ended, each with its study's name, the newest first."""
        detached = (
            sa.select(StudyRow.name, LaunchRow, database_now())
            .join(StudyRow, StudyRow.id == LaunchRow.study_id)
            .where(LaunchRow.job.is_not(None))
            .order_by(LaunchRow.id.desc())
        )
        with self.read() as session:
            return [(name, _launch_record(row, now)) for name, row, now in session.execute(detached)]

    def results(self, name: str) -> list[ResultRecord]:
        """Return parameters and values of a study's COMPLETE trials, by number; much faster than `trials`.

        Raises:
            UnknownStudyError: There is no such study.
        """
        self.study_row(name)
        optuna_id = self.optuna_study_id(name)
        with self.read() as session:
            return read_results(session.connection(), optuna_id)

    def trials(self, name: str, numbers: Collection[int] | None = None) -> list[TrialRecord]:
        """Return trials of a study with everything known about them, ordered by number.

        Args:
            name: Name of the study.
            numbers: Numbers of the trials; None for all. Unknown numbers are ignored.

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
        """Return the record of the checkpoint with a digest, from any study; None if there is none."""
        with self.read() as session:
            query = sa.select(CheckpointRow).where(CheckpointRow.sha256 == sha256)
            row = session.scalar(query.order_by(CheckpointRow.removed_at.is_not(None), CheckpointRow.id))
        return None if row is None else checkpoint_record(row)

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return the versions of packages and plug-ins in each launch of a study, the oldest first."""
        study_id = self.study_row(name).id
        with self.read() as session:
            query = sa.select(LaunchRow.versions).where(LaunchRow.study_id == study_id)
            return list(session.scalars(query.order_by(LaunchRow.id)))

    def optuna_study_id(self, name: str) -> int:
        """Return Optuna's id of a study that is in our tables.

        Raises:
            StudyConflictError: The study was deleted from Optuna's tables, by its dashboard or a script.
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
        """Return the direction of each of a study's objectives.

        Raises:
            StudyConflictError: The study was deleted from Optuna's tables.
        """
        study_id = self.optuna_study_id(name)
        with self.read() as session:
            found = read_directions(session.connection(), study_id)
        return ["maximize" if each == StudyDirection.MAXIMIZE else "minimize" for each in found]


def value_of(trial: FrozenTrial) -> float | None:
    """Return a trial's first objective; for a pruned trial, that of its last epoch. None if it has no value."""
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
    """Return a checkpoint's row as a record of plain values."""
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
        reason=row.reason,
    )
