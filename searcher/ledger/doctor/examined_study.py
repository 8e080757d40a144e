"""A study as the doctor sees it: read once, looked at by all checks."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from optuna.trial import FrozenTrial

from searcher.exceptions import StudyConflictError
from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.liveness import driver_is_gone
from searcher.ledger.tables import CheckpointRow, LaunchRow, StudyRow
from searcher.ledger.watch import frozen_trials
from searcher.storage.mirror import local_root

__all__ = ["ExaminedStudy"]


@dataclass(frozen=True, kw_only=True)
class ExaminedStudy:
    """A study that the doctor examines: its rows, trials and driver, read once."""

    database: Database
    row: StudyRow
    trials: dict[int, FrozenTrial] | None
    """By number; None: the study was deleted from Optuna's tables."""
    records: list[CheckpointRow]
    """Of the checkpoints that were not given up."""
    lost_launches: list[LaunchRow]
    """Launches without an end whose driver is gone."""
    driver: LaunchRow | None
    """The launch that is at work."""

    @classmethod
    def read(cls, database: Database, name: str) -> "ExaminedStudy":
        """Return a study in its present state.

        Raises:
            UnknownStudyError: There is no such study.
        """
        row = database.study_row(name)
        unended = sa.select(LaunchRow, database_now()).where(
            LaunchRow.study_id == row.id, LaunchRow.ended_at.is_(None)
        )
        with database.read() as session:
            launches = [(launch, now) for launch, now in session.execute(unended.order_by(LaunchRow.id))]
        # The trials before the records: a trial that is finished by then writes no more of them.
        try:
            trials = {trial.number: trial for trial in frozen_trials(database, name)}
        except StudyConflictError:
            trials = None
        kept = (CheckpointRow.study_id == row.id, CheckpointRow.removed_at.is_(None))
        by_trial = sa.select(CheckpointRow).where(*kept).order_by(CheckpointRow.trial, CheckpointRow.kind)
        with database.read() as session:
            records = list(session.scalars(by_trial))
        gone = [launch for launch, now in launches if driver_is_gone(launch, now)]
        alive = [launch for launch, _ in launches if launch not in gone]
        return cls(
            database=database,
            row=row,
            trials=trials,
            records=records,
            lost_launches=gone,
            driver=alive[-1] if alive else None,
        )

    @property
    def name(self) -> str:
        """The study's name."""
        return self.row.name

    @property
    def root(self) -> Path:
        """Folder of the storage root on this machine."""
        return local_root(self.row.storage_root)

    @property
    def is_done(self) -> bool:
        """Whether the budget is used, so that no further launch is needed."""
        states = [trial.state.name for trial in (self.trials or {}).values()]
        return states.count("COMPLETE") + states.count("PRUNED") >= self.row.budget

    def knows_by_now(self, number: int) -> bool:
        """Return whether the database has a trial now, even one that started after this study was read."""
        if self.trials is not None and number in self.trials:
            return True
        return any(trial.number == number for trial in frozen_trials(self.database, self.name))

    def state_of(self, number: int) -> str | None:
        """Return a trial's state; None if it is not in Optuna's tables."""
        trial = (self.trials or {}).get(number)
        return None if trial is None else trial.state.name
