"""Taking a study over from a driver that is gone, and from no other."""

import logging
import os
import time
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from searcher.exceptions import StudyConflictError
from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.liveness import driver_state, own_process
from searcher.ledger.tables import LaunchRow, StudyRow
from searcher.ledger.this_launch import this_launch

__all__ = ["WATCH_S", "begun_before", "gone_drivers", "open_launches", "refusal", "take_over"]

logger = logging.getLogger(__name__)

WATCH_S = 25.0
"""How long another driver watches a silent lease: a bit more than two renewals."""


def gone_drivers(database: Database, study_id: int, study_name: str) -> dict[int, datetime]:
    """Return the launches without an end whose driver is gone, as the time of their last renewal by launch id.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        study_name: Name of the study, for messages.

    Raises:
        StudyConflictError: A driver of the study is alive.
    """
    gone = {}
    for launch, now in open_launches(database, study_id):
        state: str = driver_state(launch, now)
        if state == "uncertain":
            logger.warning(
                "%s: process %d on %s has not renewed its lease; watching for %.0f s whether it does",
                *(study_name, launch.pid, launch.host, WATCH_S),
            )
            state = _watched_state(database, launch)
        if state == "alive":
            raise refusal(study_name, launch, now)
        if state == "gone":
            gone[launch.id] = launch.renewed_at
    return gone


def begun_before(database: Database, study_id: int) -> int | None:
    """Return the id of the launch that this process began without receiving the confirmation; None without one."""
    for launch, now in open_launches(database, study_id):
        is_ours = (launch.process_space, launch.pid) == (own_process()[0], os.getpid())
        if is_ours and driver_state(launch, now) == "alive":
            return launch.id
    return None


def refusal(study_name: str, launch: LaunchRow, now: datetime) -> StudyConflictError:
    """Return the error for a second driver while a launch is running.

    Args:
        study_name: Name of the study.
        launch: The launch that is running.
        now: The present moment by the database's clock.
    """
    age = max(timedelta(0), now - launch.started_at)
    return StudyConflictError(
        f"--study {study_name}: must have one driver at a time, got a second one; process {launch.pid} on "
        f"{launch.host} has run it for {timedelta(seconds=int(age.total_seconds()))}; wait for it, or stop it with "
        f"`searcher stop --study {study_name}`"
    )


def open_launches(database: Database, study_id: int) -> list[tuple[LaunchRow, datetime]]:
    """Return the launches without an end, each with the present moment by the database's clock."""
    unended = sa.select(LaunchRow, database_now()).where(
        LaunchRow.study_id == study_id, LaunchRow.ended_at.is_(None)
    )
    with database.read() as session:
        return [(launch, now) for launch, now in session.execute(unended.order_by(LaunchRow.id))]


def _watched_state(database: Database, launch: LaunchRow) -> Literal["alive", "gone", "ended"]:
    """Watch for a bit more than two renewals whether a silent driver renews its lease."""
    give_up_at = time.monotonic() + WATCH_S
    while time.monotonic() < give_up_at:
        time.sleep(min(1.0, WATCH_S / 10))
        columns = sa.select(LaunchRow.renewed_at, LaunchRow.ended_at)
        with database.read() as session:
            row = session.execute(columns.where(LaunchRow.id == launch.id)).one_or_none()
        if row is None or row.ended_at is not None:
            return "ended"
        if row.renewed_at != launch.renewed_at:
            return "alive"
    return "gone"


def take_over(database: Database, study_id: int, gone: dict[int, datetime], job: str | None) -> int | None:
    """End the launches of drivers that are gone, begin a new one, and return its id.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        gone: Launches whose drivers are gone, with their last renewal; see `gone_drivers`.
        job: Id of the Ray job of which this process is the driver; None if it is no job.

    Returns:
        The id of the new launch; None if a driver came or came back meanwhile, in which case nothing was changed.
    """
    launch = this_launch(study_id, job)
    with database.write() as session:
        # Locks the study's row on PostgreSQL; on SQLite the transaction holds the only write lock already.
        session.execute(sa.select(StudyRow.id).where(StudyRow.id == study_id).with_for_update(key_share=True))
        for launch_id, renewed_at in gone.items():
            still_silent = (
                LaunchRow.id == launch_id,
                LaunchRow.renewed_at == renewed_at,
                LaunchRow.ended_at.is_(None),
            )
            session.execute(
                sa.update(LaunchRow).where(*still_silent).values(ended_at=database_now(), outcome="lost")
            )
        unended = sa.select(LaunchRow.id).where(LaunchRow.study_id == study_id, LaunchRow.ended_at.is_(None))
        if session.scalars(unended).first() is not None:
            session.rollback()
            return None
        session.add(launch)
        session.flush()
        return launch.id
