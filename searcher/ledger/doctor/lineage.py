"""What a study rests on and somebody deleted: its parent, its half of Optuna's tables."""

from collections.abc import Iterator

import sqlalchemy as sa

from searcher.exceptions import StorageError, UserError
from searcher.ledger.checkpoint_files import find_checkpoint
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding
from searcher.ledger.tables import CheckpointRow, EpochRow

__all__ = ["optunas_half", "parent"]


def optunas_half(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding if Optuna's tables lack the study or trials of it, for example deleted in the dashboard."""
    name = examined.name
    if examined.trials is None:
        yield Finding(
            kind="lineage",
            study=name,
            where="Optuna's tables",
            what="the study was deleted from them, with the states and parameters of its trials",
            why="it cannot go on; epochs, checkpoints and logs are still there",
            remedy="restore a backup of the database, or begin another study with --set study.name=NAME",
        )
        return
    unknown = sorted(n for n in _numbers(examined) - examined.trials.keys() if not examined.knows_by_now(n))
    if unknown:
        yield Finding(
            kind="lineage",
            study=name,
            where=f"trial {', '.join(map(str, unknown))}",
            what="has epochs or checkpoints, but is not in Optuna's tables",
            why="its state and parameters are lost; a new trial of that number would be mixed up with it",
            remedy="restore a backup of the database, or begin another study with --set study.name=NAME",
        )


def parent(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding if the study's parent, or its first checkpoint, was deleted. The lineage stays recorded."""
    row = examined.row
    if row.parent_study is None:
        return
    where = f"parent {row.parent_study}" + ("" if row.parent_trial is None else f", trial {row.parent_trial}")
    gone = _what_is_gone(examined, row.parent_study)
    if gone is None:
        return
    begins_from_it = row.parent_sha256 is not None and not examined.is_done
    yield Finding(
        kind="lineage",
        study=row.name,
        where=where,
        what=gone,
        why="the trials still to come start from its weights"
        if begins_from_it
        else "this study is whole without it, and still says where it comes from",
        remedy="restore the parent from a backup" if begins_from_it else "none needed",
        state="left" if begins_from_it else "noted",
    )


def _what_is_gone(examined: ExaminedStudy, parent_study: str) -> str | None:
    try:
        parent_examined = ExaminedStudy.read(examined.database, parent_study)
    except UserError:
        return "the study was deleted"
    if examined.row.parent_sha256 is None:
        return "the study was deleted from Optuna's tables" if parent_examined.trials is None else None
    record = examined.database.checkpoint_with(examined.row.parent_sha256)
    try:
        if record is not None and find_checkpoint(examined.root, record) is not None:
            return None
    except StorageError:
        raise
    except UserError:  # the record names a file outside the storage root
        pass
    return f"its checkpoint {examined.row.parent_sha256[:12]}… is gone"


def _numbers(examined: ExaminedStudy) -> set[int]:
    """Return the trials that our tables know."""
    with examined.database.read() as session:
        epochs = sa.select(EpochRow.trial).where(EpochRow.study_id == examined.row.id).distinct()
        written = sa.select(CheckpointRow.trial).where(CheckpointRow.study_id == examined.row.id).distinct()
        return {*session.scalars(epochs), *session.scalars(written)}
