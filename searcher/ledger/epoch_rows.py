"""Every metric of every epoch of a trial, as our tables hold it."""

import math
from collections.abc import Mapping

import sqlalchemy as sa

from searcher.ledger.database import Database
from searcher.ledger.tables import EpochRow

__all__ = ["read_epochs", "write_epoch"]


def write_epoch(
    database: Database, study_id: int, number: int, epoch: int, metrics: Mapping[str, float | None]
) -> None:
    """Record the metrics of one epoch of a trial; nothing happens if the epoch is recorded already.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        number: Number of the trial.
        epoch: Number of the epoch, from 1.
        metrics: Values by name; a value that is not finite is stored as missing.
    """
    where = (EpochRow.study_id == study_id, EpochRow.trial == number, EpochRow.epoch == epoch)
    finite = {
        name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()
    }
    with database.write() as session:
        if session.scalar(sa.select(EpochRow.id).where(*where)) is None:
            session.add(EpochRow(study_id=study_id, trial=number, epoch=epoch, metrics=finite))


def read_epochs(
    database: Database, study_id: int, number: int, *, up_to: int | None = None
) -> dict[int, dict[str, float]]:
    """Return the metrics of a trial's epochs by the epoch's number, in order.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        number: Number of the trial.
        up_to: The last epoch to read; None for all.
    """
    chosen = sa.select(EpochRow.epoch, EpochRow.metrics).where(
        EpochRow.study_id == study_id, EpochRow.trial == number
    )
    if up_to is not None:
        chosen = chosen.where(EpochRow.epoch <= up_to)
    with database.read() as session:
        return {row.epoch: row.metrics for row in session.execute(chosen.order_by(EpochRow.epoch))}
