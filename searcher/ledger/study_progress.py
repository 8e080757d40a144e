"""What a study has cost so far, and when its launch will be done: from the database alone."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from searcher.exceptions import StudyFileError
from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.forecast import Forecast
from searcher.ledger.optuna_trials import TrialTimes, read_times
from searcher.ledger.records import StudyRecord
from searcher.ledger.stored import stored_spec
from searcher.ledger.tables import EpochRow, LaunchRow

__all__ = ["StudyProgress", "earlier_trials", "study_progress"]


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """How much time a study has used, and how much its launch still needs."""

    spent_s: float
    """Seconds of all launches together."""
    gpu_hours: float
    """Hours of trials times GPUs of a trial. Launches before version 0.3 did not note their GPUs and count nothing."""
    left_s: float | None
    """Seconds until the launch is expected to end; None where none runs, or before its first epoch."""


@dataclass(frozen=True)
class _Reached:
    epoch: int
    at: datetime


def study_progress(database: Database, study: StudyRecord) -> StudyProgress:
    """Return how much time a study has used, and how much its launch still needs.

    Args:
        database: The study database.
        study: The study, as `Database.study` returns it.
    """
    trials, launches, reached, now = _read(database, study.name)
    spent_s = sum(_seconds(each.started_at, each.ended_at or each.renewed_at) for each in launches)
    gpu_s = 0.0
    for trial in trials:
        if trial.started_at is not None:
            before = [each for each in launches if each.started_at <= trial.started_at]
            gpu_s += (before[-1].gpus or 0.0 if before else 0.0) * _seconds(
                trial.started_at, trial.ended_at or now
            )
    is_running = study.last_launch is not None and study.last_launch.outcome is None
    left_s = _left_s(database, study, trials, launches[-1], reached, now) if is_running else None
    return StudyProgress(spent_s=spent_s, gpu_hours=gpu_s / 3600, left_s=left_s)


def earlier_trials(database: Database, name: str) -> list[tuple[int, float]]:
    """Return the number of epochs and the seconds of each finished trial, except retries of interrupted trials.

    Args:
        database: The study database.
        name: Name of the study.
    """
    trials, _, reached, _ = _read(database, name)
    return [
        (reached[trial.number].epoch, _seconds(trial.started_at, trial.ended_at))
        for trial in trials
        if trial.is_done and not trial.is_retry and trial.number in reached
    ]


def _read(
    database: Database, name: str
) -> tuple[list[TrialTimes], list[LaunchRow], dict[int, _Reached], datetime]:
    row, optuna_id = database.study_row(name), database.optuna_study_id(name)
    newest = sa.select(EpochRow.trial, sa.func.max(EpochRow.epoch), sa.func.max(EpochRow.recorded_at))
    with database.read() as session:
        trials = read_times(session.connection(), optuna_id)
        launches = session.scalars(
            sa.select(LaunchRow).where(LaunchRow.study_id == row.id).order_by(LaunchRow.id)
        ).all()
        epochs = session.execute(newest.where(EpochRow.study_id == row.id).group_by(EpochRow.trial)).all()
        [now] = session.execute(sa.select(database_now())).one()
        session.expunge_all()
    return trials, list(launches), {number: _Reached(epoch, at) for number, epoch, at in epochs}, now


def _left_s(
    database: Database,
    study: StudyRecord,
    trials: list[TrialTimes],
    launch: LaunchRow,
    reached: dict[int, _Reached],
    now: datetime,
) -> float | None:
    try:
        spec = stored_spec(database.study_row(study.name))
    except StudyFileError:  # of a plug-in that is not here: no reason not to show the rest
        return None
    forecast, start = Forecast(), launch.started_at
    for epochs, seconds in earlier_trials(database, study.name):
        forecast.earlier(epochs, seconds)
    running = [each for each in trials if each.state == "RUNNING" and each.started_at is not None]
    for trial in running:
        assert trial.started_at is not None
        began = (trial.started_at - start).total_seconds()
        forecast.started(trial.number, first_epoch=0, num_epochs=spec.max_epochs, now=began)
        if trial.number in reached:
            at_s = (reached[trial.number].at - start).total_seconds()
            forecast.epoch_done(trial.number, reached[trial.number].epoch, at_s)
    passed_s = (now - start).total_seconds()
    left_s = forecast.left_s(study.budget - study.num_done, passed_s)
    if left_s is None or not spec.study.hours:
        return left_s
    return max(
        min(left_s, spec.study.hours * 3600 - passed_s), max(forecast.running_left_s(passed_s), default=0.0)
    )


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return 0.0 if start is None or end is None else max(0.0, (end - start).total_seconds())
