"""The lease: one driver per study.

The newest launch without an end is the lease. Its holder renews it; another driver takes it over only when the
holder is known to be gone: its renewal is too old, or it ran on this host and its process is no more.
"""

import logging
import os
import platform
import socket
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import sqlalchemy as sa
from sqlalchemy.orm import Session

from searcher.exceptions import DatabaseError, StudyConflictError
from searcher.ledger.database import Database
from searcher.ledger.liveness import driver_is_gone
from searcher.ledger.tables import LaunchRow, StudyRow, utc_now

__all__ = ["Lease"]

logger = logging.getLogger(__name__)

RENEW_EVERY_S = 10.0
_RECORDED_VERSIONS = (
    "gland-searcher",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "albumentations",
    "numpy",
    "sqlalchemy",
)


class Lease:
    """The right to drive a study, held from `acquire` to `release` or the end of the process."""

    def __init__(self, database: Database, study_name: str, launch_id: int) -> None:
        self.study_name = study_name
        self._database = database
        self._launch_id = launch_id
        self._outcome = "failed"
        self._lost = threading.Event()
        self._when_lost: Callable[[], None] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, database: Database, study_name: str) -> Self:
        """Return the lease on a study.

        Raises:
            StudyConflictError: Another driver holds it; the message gives host, process and age.
        """
        study_id = database.study_row(study_name).id
        with database.write() as session:
            # Locks the study's row on PostgreSQL; on SQLite the transaction holds the only write lock already.
            session.execute(sa.select(StudyRow.id).where(StudyRow.id == study_id).with_for_update())
            _end_lost_launches(session, study_id, study_name)
            launch = LaunchRow(
                study_id=study_id,
                host=socket.gethostname(),
                pid=os.getpid(),
                process_started=psutil.Process().create_time(),
                versions=_versions(),
                git_revision=_git_revision(),
            )
            session.add(launch)
            session.flush()
            launch_id = launch.id
        return cls(database, study_name, launch_id)

    def ends_as(self, outcome: str) -> None:
        """Say how the launch went, `finished` or `interrupted`; it counts as `failed` until this is called."""
        self._outcome = outcome

    @property
    def is_lost(self) -> bool:
        """Whether another driver has taken the study over, after this one was silent for too long."""
        return self._lost.is_set()

    def on_lost(self, act: Callable[[], None]) -> None:
        """Call `act`, from the lease's thread, should another driver take the study over."""
        self._when_lost = act

    def release(self) -> None:
        """Write down the end of the launch and let another driver have the study."""
        self._stop.set()
        self._thread.join()
        self._update(ended_at=utc_now(), outcome=self._outcome)

    def _update(self, **values: Any) -> bool:
        """Write into the launch's row, unless another driver has ended it; return whether it was still ours."""
        mine = sa.update(LaunchRow).where(LaunchRow.id == self._launch_id, LaunchRow.ended_at.is_(None))
        with self._database.write() as session:
            return bool(session.execute(mine.values(**values)).rowcount)  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            try:
                still_ours = self._update(renewed_at=utc_now())
            except DatabaseError as error:
                logger.warning("could not renew the lease on %s, trying again: %s", self.study_name, error)
                continue
            if not still_ours:
                logger.error("another driver has taken %s over, stopping", self.study_name)
                self._lost.set()
                if self._when_lost is not None:
                    self._when_lost()
                return


def _end_lost_launches(session: Session, study_id: int, study_name: str) -> None:
    """End launches whose driver is gone; refuse if one is still there."""
    for launch in session.scalars(
        sa.select(LaunchRow).where(LaunchRow.study_id == study_id, LaunchRow.ended_at.is_(None))
    ):
        if not driver_is_gone(launch):
            age = utc_now() - launch.started_at
            raise StudyConflictError(
                f"--study {study_name}: must have one driver at a time, got a second one; process {launch.pid} on "
                f"{launch.host} has run it for {timedelta(seconds=int(age.total_seconds()))}; wait for it or stop it"
            )
        launch.ended_at = utc_now()
        launch.outcome = "lost"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _RECORDED_VERSIONS}}


def _git_revision() -> str | None:
    """Return the revision of the source tree that runs, None for an installed package."""
    here = Path(__file__).resolve().parent
    if not any((folder / ".git").exists() for folder in here.parents):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()[
            :64
        ]
    except (OSError, subprocess.SubprocessError):
        return None
