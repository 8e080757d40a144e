"""Light looks at a study, for commands that look again and again: its driver, a trial's state."""

from dataclasses import dataclass

import sqlalchemy as sa
from optuna.trial import FrozenTrial

from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.liveness import driver_is_gone
from searcher.ledger.optuna_trials import read_trials
from searcher.ledger.tables import LaunchRow, StudyRow, utc_now
from searcher.study.job_names import study_of_job_name

__all__ = [
    "Launch",
    "TrialEnd",
    "frozen_trials",
    "newest_launch",
    "newest_launch_of_job",
    "request_stop",
    "study_worked_on_for",
    "trial_end",
]


@dataclass(frozen=True)
class Launch:
    """A launch in its present state: its row, and whether its driver is gone."""

    row: LaunchRow
    driver_is_gone: bool
    """Whether it has no recorded end although its driver is gone."""

    @property
    def is_running(self) -> bool:
        """Whether the launch has not ended and its driver is not gone."""
        return self.row.ended_at is None and not self.driver_is_gone


@dataclass(frozen=True)
class TrialEnd:
    """The state of a trial, why it ended, and the number of its retry."""

    state: str
    """Optuna's: WAITING, RUNNING, COMPLETE, PRUNED or FAIL."""
    reason: str | None
    """Why it ended."""
    retry: int | None
    """The trial that tries its parameters again."""

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state not in ("WAITING", "RUNNING")


def newest_launch(database: Database, name: str, *, launch_id: int | None = None) -> Launch | None:
    """Return a study's newest launch, or the one with an id; None if there is none.

    Args:
        database: The study database.
        name: Name of the study.
        launch_id: Id of the launch; None for the newest.

    Raises:
        UnknownStudyError: There is no such study.
        DatabaseError: The database cannot be read.
    """
    query = sa.select(LaunchRow).where(LaunchRow.study_id == database.study_row(name).id)
    if launch_id is not None:
        query = query.where(LaunchRow.id == launch_id)
    with database.read() as session:
        row = session.scalar(query.order_by(LaunchRow.id.desc()).limit(1))
        now = session.scalars(sa.select(database_now())).one()
    return None if row is None else Launch(row, row.ended_at is None and driver_is_gone(row, now))


def newest_launch_of_job(database: Database, job: str) -> tuple[str, Launch] | None:
    """Return the newest launch by a Ray job's driver, with its study's name; None if there is none yet.

    With `--with-parents`, a driver has one launch after the other.
    """
    query = sa.select(StudyRow.name, LaunchRow, database_now()).join(
        LaunchRow, LaunchRow.study_id == StudyRow.id
    )
    with database.read() as session:
        found = session.execute(
            query.where(LaunchRow.job == job).order_by(LaunchRow.id.desc()).limit(1)
        ).one_or_none()
    if found is None:
        return None
    study, row, now = found
    return study, Launch(row, row.ended_at is None and driver_is_gone(row, now))


def study_worked_on_for(database: Database, name: str) -> str | None:
    """Return the name of the study that a Ray job submitted for `name` is running now: `name` itself, or a parent.

    None if there is no such job, or if it is between two studies for a moment.
    """
    running = sa.select(LaunchRow.job).where(LaunchRow.ended_at.is_(None), LaunchRow.job.is_not(None))
    with database.read() as session:
        jobs = list(filter(None, session.scalars(running.order_by(LaunchRow.id.desc()))))
    for job in jobs:
        found = newest_launch_of_job(database, job) if study_of_job_name(job) == name else None
        if found is not None and found[1].is_running:
            return found[0]
    return None


def request_stop(database: Database, launch_id: int) -> None:
    """Ask the driver of a launch to end it; nothing happens if the launch has ended."""
    running = (LaunchRow.id == launch_id, LaunchRow.ended_at.is_(None), LaunchRow.stop_requested_at.is_(None))
    with database.write() as session:
        session.execute(sa.update(LaunchRow).where(*running).values(stop_requested_at=utc_now()))


def frozen_trials(database: Database, name: str) -> list[FrozenTrial]:
    """Return all trials of a study as Optuna's own objects, ordered by number.

    Raises:
        StudyConflictError: The study was deleted from Optuna's tables.
        DatabaseError: The database cannot be read.
    """
    study_id = database.optuna_study_id(name)
    with database.read() as session:
        return read_trials(session.connection(), study_id)


def trial_end(database: Database, name: str, number: int) -> TrialEnd | None:
    """Return the state of a trial; None if the study has no such trial.

    Args:
        database: The study database.
        name: Name of the study.
        number: Number of the trial.

    Raises:
        StudyConflictError: The study was deleted from Optuna's tables.
        DatabaseError: The database cannot be read.
    """
    trials = frozen_trials(database, name)
    if not 0 <= number < len(trials):
        return None
    notes = trials[number].user_attrs
    retries = [trial.number for trial in trials if trial.user_attrs.get("retry_of") == number]
    return TrialEnd(
        state=trials[number].state.name,
        reason=notes.get("fail_reason") or notes.get("stop_reason"),
        retry=retries[0] if retries else None,
    )
