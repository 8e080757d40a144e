"""The lease: one driver per study.

The newest launch without an end is the lease. Its holder renews it. Another driver takes it over only when the holder
is known to be gone. The holder's process is checked where it can be seen; otherwise its lease is watched.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from searcher.exceptions import DatabaseReplacedError, SearcherError, StudyConflictError
from searcher.ledger import takeover
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.liveness import driver_state
from searcher.ledger.tables import LaunchRow

__all__ = ["Lease"]

logger = logging.getLogger(__name__)

RENEW_EVERY_S = 10.0
LOOK_EVERY_S = 2.0
"""How often the holder checks for a request to stop, and for a lost lease."""
_TRY_AGAIN_AFTER_S = 0.5
_MAX_ROUNDS = 5
"""How often `acquire` looks again when drivers came, ended or renewed while it was deciding."""
_IN_DOUBT: set[tuple[DatabaseAddress, int]] = set()
"""Studies for which this process began a launch without hearing whether it was written: the database went away."""


class Lease:
    """The right to drive a study, from `acquire` to `release` or the end of the process.

    A thread of its own renews the lease and checks for requests to stop. No error of the database ends that thread.
    """

    def __init__(self, database: Database, study_name: str, launch_id: int) -> None:
        self.study_name = study_name
        self._database = database
        self._launch_id = launch_id
        self._outcome = "failed"
        self._reason: str | None = None
        self._problem: SearcherError | None = None
        self._when_lost = _Once()
        self._when_stopped = _Once()
        self._release_by: float | None = None
        self._is_released = False
        self._wake = threading.Event()
        database.guard.fence(launch_id, self._refused)
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, database: Database, study_name: str, *, job: str | None = None) -> Self:
        """Return the lease on a study. It may wait `takeover.WATCH_S` seconds to see whether a silent holder is gone.

        Args:
            database: The study database.
            study_name: Name of the study.
            job: Id of the Ray job of which this process is the driver, for the record; None if it is no job.

        Raises:
            StudyConflictError: Another driver holds the lease; the message gives host, process, age and the remedy.
        """
        study_id = database.study_row(study_name).id
        in_doubt = (database.address, study_id)
        for _ in range(_MAX_ROUNDS):
            launch_id = takeover.begun_before(database, study_id) if in_doubt in _IN_DOUBT else None
            if launch_id is None:
                gone = takeover.gone_drivers(database, study_id, study_name)
                _IN_DOUBT.add(in_doubt)
                launch_id = takeover.take_over(database, study_id, gone, job)
            _IN_DOUBT.discard(in_doubt)
            if launch_id is not None:
                return cls(database, study_name, launch_id)
        raise StudyConflictError(
            f"--study {study_name}: must have one driver at a time, got several that begin and end; wait for them"
        )

    @staticmethod
    def refuse_if_held(database: Database, study_name: str) -> None:
        """Raise an error if `acquire` would fail at once; changes nothing and waits for nothing.

        Raises:
            StudyConflictError: Another driver holds the lease.
        """
        for launch, now in takeover.open_launches(database, database.study_row(study_name).id):
            if driver_state(launch, now) == "alive":
                raise takeover.refusal(study_name, launch, now)

    def ends_as(self, outcome: str, reason: str | None = None) -> None:
        """Set the outcome of the launch, `finished` or `interrupted`. Without it, the outcome is `failed`.

        Args:
            outcome: How it ends.
            reason: Why it ends before the study's budget is used; None where there is nothing to say.
        """
        self._outcome, self._reason = outcome, reason

    def uses(self, gpus: float) -> None:
        """Record how many GPUs each trial of this launch uses.

        Args:
            gpus: The number of GPUs.
        """
        self._update({"gpus": gpus})

    @property
    def is_lost(self) -> bool:
        """Whether another driver has taken over the study, because this one was silent for too long."""
        return self._problem is not None

    @property
    def problem(self) -> SearcherError | None:
        """The error that says why this driver must stop; None while it may continue."""
        return self._problem

    def check(self) -> None:
        """Check now whether the study is still this driver's, after the database could not be reached.

        Raises:
            StudyConflictError: Another driver has taken over the study.
            DatabaseAwayError: The database still cannot be reached.
        """
        self._look()
        if self._problem is not None:
            raise self._problem

    def on_lost(self, act: Callable[[], None]) -> None:
        """Set a function to call once, in the lease's thread, if another driver takes over the study."""
        self._when_lost.act = act

    def on_stop(self, act: Callable[[], None]) -> None:
        """Set a function to call once, in the lease's thread, if `searcher stop` asks this launch to end."""
        self._when_stopped.act = act

    def release(self, *, give_up_after_s: float = 20.0) -> None:
        """Record the end of the launch, so that another driver can have the study.

        Args:
            give_up_after_s: Seconds to try while the database cannot be reached. After that, the next launch notices by
                itself that this process is gone.
        """
        self._release_by = time.monotonic() + give_up_after_s
        self._wake.set()
        self._thread.join(give_up_after_s)
        if not self._is_released:
            logger.warning(
                "could not write down the end of the launch of %s: the database is away; the next launch will see "
                "that this process is gone",
                self.study_name,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()

    # ---- the lease's thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        renew_at = time.monotonic() + RENEW_EVERY_S
        failing = False
        while not self._wake.wait(LOOK_EVERY_S):
            try:
                if not self.is_lost:
                    if time.monotonic() >= renew_at:
                        self._update(renewed_at=database_now())
                        renew_at = time.monotonic() + RENEW_EVERY_S
                    self._look()
                if failing:
                    logger.info("renewing the lease on %s again", self.study_name)
                failing = False
            except DatabaseReplacedError as error:
                self._lose(error)
            except (
                Exception
            ) as error:  # whatever it is, a driver that goes on without its lease would be worse
                if not failing and not self.is_lost:  # not louder: whoever waits for the database says so
                    logger.info("could not renew the lease on %s, trying again: %s", self.study_name, error)
                failing = True
            self._tell()
        self._write_end()

    def _look(self) -> None:
        """Check whether the launch is still ours, and whether somebody requested its end."""
        columns = sa.select(LaunchRow.ended_at, LaunchRow.stop_requested_at)
        with self._database.read() as session:
            row = session.execute(columns.where(LaunchRow.id == self._launch_id)).one_or_none()
        if row is None or row.ended_at is not None:
            self._refused(row is not None)
        elif row.stop_requested_at is not None:
            self._when_stopped.is_due = True

    def _refused(self, is_recorded: bool) -> SearcherError:
        """Note, and return, why nothing may be written any more: the launch has an end, or is not there."""
        if is_recorded:
            return self._lose(
                StudyConflictError(
                    f"--study {self.study_name}: must have one driver at a time, got another one that took it over "
                    "while nothing was heard of this one; this launch has ended, see `searcher status`"
                )
            )
        return self._lose(
            DatabaseReplacedError(
                f"--study {self.study_name}: its launch must be in the database, got none: an older copy "
                "took the database's place; bring back the newest copy if you can, then launch again"
            )
        )

    def _lose(self, problem: SearcherError) -> SearcherError:
        if self._problem is None:
            self._problem = problem
            self._when_lost.is_due = True
        return self._problem

    def _tell(self) -> None:
        for listener in (self._when_lost, self._when_stopped):
            try:
                listener.call_if_due()
            except Exception:
                logger.exception("what should happen at the end of the lease on %s failed", self.study_name)

    def _write_end(self) -> None:
        """Write down the end, trying until `release` gives up."""
        assert self._release_by is not None
        while not self._is_released:
            if self.is_lost:  # by whoever took the study over; our writes stay refused
                self._is_released = True
                return
            try:
                self._update({"reason": self._reason}, ended_at=database_now(), outcome=self._outcome)
                self._database.guard.unfence(self._launch_id)
                self._is_released = True
            except DatabaseReplacedError as error:  # the launch is not in there, and the driver says so
                self._lose(error)
            except Exception as error:
                if time.monotonic() >= self._release_by:
                    return
                logger.debug("could not release the lease on %s, trying again: %s", self.study_name, error)
                time.sleep(_TRY_AGAIN_AFTER_S)

    def _update(self, facts: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Write into the launch's row, unless another driver has ended it; `facts` go to its versions."""
        mine = (LaunchRow.id == self._launch_id, LaunchRow.ended_at.is_(None))
        with self._database.write() as session:
            known = {each: value for each, value in (facts or {}).items() if value is not None}
            if known:
                before = session.scalar(sa.select(LaunchRow.versions).where(*mine))
                values["versions"] = {**(before or {}), **known}
            if values:
                session.execute(sa.update(LaunchRow).where(*mine).values(**values))


class _Once:
    """Something to do once, when it is both due and known."""

    def __init__(self) -> None:
        self.act: Callable[[], None] | None = None
        self.is_due = False
        self._is_done = False

    def call_if_due(self) -> None:
        if self.is_due and self.act is not None and not self._is_done:
            self._is_done = True
            self.act()
