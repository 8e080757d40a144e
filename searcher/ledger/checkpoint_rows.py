"""A trial's checkpoints in our tables: the newest of each kind, and which of them a retry can resume from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from searcher.ledger.checkpoint_files import damage_of, find_checkpoint
from searcher.ledger.database import Database, checkpoint_record
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.tables import CheckpointRow, utc_now

__all__ = ["ResumePoint", "newest_whole", "read_digests", "write_checkpoint"]


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """The checkpoint from which a retry resumes, and the checkpoints found damaged on the way."""

    checkpoint: CheckpointRecord | None
    """Whole and verified; None if there is none to go on from."""
    trial: int | None
    """The trial that wrote it."""
    damages: tuple[str, ...]
    """Newer checkpoints that could not be used, and why."""
    lost_best: str | None = None
    """What is wrong with the best checkpoint up to there: whole no more, so that a later epoch must beat its value."""


def write_checkpoint(database: Database, study_id: int, number: int, record: CheckpointRecord) -> None:
    """Record a trial's newest checkpoint of its kind in the database; the earlier `last` becomes `previous`.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        number: Number of the trial.
        record: The checkpoint's record.
    """
    with database.write() as session:
        rows = session.scalars(sa.select(CheckpointRow).where(*_of_trial(study_id, number)))
        by_kind = {row.kind: row for row in rows}
        row = by_kind.get(record.kind)
        if row is not None and row.sha256 == record.sha256:
            return
        if record.kind == "last" and row is not None:
            before = checkpoint_record(row)
            previous = by_kind.get("previous") or CheckpointRow(study_id=study_id, trial=number)
            # In an object store it is named by its content, and keeps its name.
            moved = _beside(before.uri, "previous.pt") if before.uri.endswith("/last.pt") else before.uri
            _fill(previous, before, kind="previous", uri=moved)
            session.add(previous)
        row = row or CheckpointRow(study_id=study_id, trial=number)
        _fill(row, record, kind=record.kind, uri=record.uri)
        session.add(row)


def read_digests(database: Database, study_id: int, number: int) -> dict[str, str]:
    """Return the SHA-256 of a trial's checkpoints by kind, including checkpoints whose files were deleted.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        number: Number of the trial.
    """
    with database.read() as session:
        rows = session.scalars(sa.select(CheckpointRow).where(*_of_trial(study_id, number)))
        return {row.kind: row.sha256 for row in rows}


def newest_whole(
    database: Database, study_id: int, numbers: Iterable[int], storage_root: Path
) -> ResumePoint:
    """Return the newest intact checkpoint of several trials, and record damaged ones as such.

    Args:
        database: The study database.
        study_id: Id of the study's row in our tables.
        numbers: Numbers of the trials; all checkpoints of a trial are tried before the next trial.
        storage_root: Folder of the storage root on this machine. Each checkpoint is read there and compared with its
            digest.
    """
    damages: list[str] = []
    for number in numbers:
        with database.read() as session:
            kept = sa.select(CheckpointRow).where(
                *_of_trial(study_id, number), CheckpointRow.removed_at.is_(None)
            )
            records = [checkpoint_record(row) for row in session.scalars(kept)]
        for record in sorted(records, key=lambda record: (-record.epoch, record.kind)):
            if find_checkpoint(storage_root, record) is None:
                damages.append(_note_damage(database, study_id, number, record, storage_root))
                continue
            best = next((each for each in records if each.kind == "best"), None)
            lost_best = None
            if best and best.epoch < record.epoch and find_checkpoint(storage_root, best) is None:
                lost_best = _note_damage(database, study_id, number, best, storage_root)
            return ResumePoint(checkpoint=record, trial=number, damages=tuple(damages), lost_best=lost_best)
    return ResumePoint(checkpoint=None, trial=None, damages=tuple(damages))


def _note_damage(
    database: Database, study_id: int, number: int, record: CheckpointRecord, storage_root: Path
) -> str:
    """Write down what is wrong with a checkpoint, and return it with its name."""
    problem = damage_of(storage_root, record) or "missing"
    with database.write() as session:
        where = (*_of_trial(study_id, number), CheckpointRow.kind == record.kind)
        session.execute(sa.update(CheckpointRow).where(*where).values(problem=problem))
    return f"{record.uri} of epoch {record.epoch}: {problem}"


def _of_trial(study_id: int, number: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return (CheckpointRow.study_id == study_id, CheckpointRow.trial == number)


def _fill(row: CheckpointRow, record: CheckpointRecord, *, kind: str, uri: str) -> None:
    row.kind, row.uri = kind, uri
    row.epoch, row.value = record.epoch, record.value
    row.sha256, row.num_bytes = record.sha256, record.num_bytes
    row.problem = record.problem
    row.removed_at = None
    row.recorded_at = utc_now()


def _beside(uri: str, name: str) -> str:
    return f"{uri.rpartition('/')[0]}/{name}"
