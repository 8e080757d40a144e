"""Later uses of a study's trials: the bundles made of them, and their figures on data sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from searcher.exceptions import StudyFileError
from searcher.ledger.database import Database
from searcher.ledger.records import EvaluationRecord, ExportRecord
from searcher.ledger.stored import stored_spec
from searcher.ledger.tables import EvaluationRow, ExportRow, StudyRow
from searcher.study.ancestor import Ancestor

__all__ = ["ancestors", "evaluations", "exports", "record_evaluations", "record_exports"]


def ancestors(database: Database, name: str) -> list[Ancestor]:
    """Return the studies from which a study is derived, the nearest first, up to one that was deleted.

    Raises:
        UnknownStudyError: There is no such study.
    """
    found: list[Ancestor] = []
    row: StudyRow | None = database.study_row(name)
    seen = {name}
    while row is not None and row.parent_study is not None and row.parent_study not in seen:
        found.append(
            Ancestor(
                study=row.parent_study,
                how=_how(row),
                trials=tuple(row.parent_trials or ()),
                sha256=row.parent_sha256,
            )
        )
        seen.add(row.parent_study)
        with database.read() as session:
            row = session.scalar(sa.select(StudyRow).where(StudyRow.name == row.parent_study))
    return found


def record_exports(database: Database, study: str, records: Sequence[ExportRecord]) -> None:
    """Record the bundles made of a study's trials. The checkpoints in them are then never deleted by `searcher gc`.

    Args:
        database: The study database.
        study: Name of the study.
        records: One record for each network of a bundle.
    """
    study_id = database.study_row(study).id
    with database.write() as session:
        session.add_all(
            ExportRow(
                study_id=study_id,
                trial=record.trial,
                epoch=record.epoch,
                checkpoint_sha256=record.checkpoint_sha256,
                path=record.path,
                sha256=record.sha256,
            )
            for record in records
        )


def record_evaluations(
    database: Database,
    study: str,
    trials: Mapping[int, str],
    *,
    data_source: str,
    data_fingerprint: str,
    splits: Mapping[str, Mapping[str, Any]],
) -> None:
    """Record the metrics of trials of a study on a data set; several trials are one ensemble.

    Args:
        database: The study database.
        study: Name of the study.
        trials: Digest of each trial's checkpoint, by number.
        data_source: Folder or URI of the data set.
        data_fingerprint: Fingerprint of the data set.
        splits: Metrics of each split. The trials' numbers are added to them, so that an ensemble differs from its
            members.
    """
    study_id = database.study_row(study).id
    with database.write() as session:
        session.add_all(
            EvaluationRow(
                study_id=study_id,
                trial=trial,
                checkpoint_sha256=sha256,
                data_source=data_source,
                data_fingerprint=data_fingerprint,
                split=split,
                metrics={**metrics, "trials": sorted(trials)},
            )
            for trial, sha256 in trials.items()
            for split, metrics in splits.items()
        )


def exports(database: Database, study: str) -> list[ExportRecord]:
    """Return the records of the bundles made from a study, the oldest first."""
    study_id = database.study_row(study).id
    with database.read() as session:
        rows = session.scalars(
            sa.select(ExportRow).where(ExportRow.study_id == study_id).order_by(ExportRow.id)
        )
        return [
            ExportRecord(
                trial=row.trial,
                epoch=row.epoch,
                checkpoint_sha256=row.checkpoint_sha256,
                path=row.path,
                sha256=row.sha256,
                created_at=row.created_at,
            )
            for row in rows
        ]


def evaluations(database: Database, study: str) -> list[EvaluationRecord]:
    """Return the recorded metrics of a study's trials on data sets, the oldest first."""
    study_id = database.study_row(study).id
    with database.read() as session:
        query = sa.select(EvaluationRow).where(EvaluationRow.study_id == study_id).order_by(EvaluationRow.id)
        return [
            EvaluationRecord(
                trial=row.trial,
                checkpoint_sha256=row.checkpoint_sha256,
                data_source=row.data_source,
                data_fingerprint=row.data_fingerprint,
                split=row.split,
                metrics=row.metrics,
                created_at=row.created_at,
            )
            for row in session.scalars(query)
        ]


def _how(row: StudyRow) -> str:
    try:
        parent = stored_spec(row).parent
    except StudyFileError:  # of another version of searcher
        parent = None
    return "unknown" if parent is None else parent.how
