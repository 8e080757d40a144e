"""Giving up checkpoints that nothing needs any more, to make room."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import StudyConflictError
from searcher.ledger.database import Database
from searcher.ledger.disposal import FolderPlan, Freed, ObjectPlan, Rules
from searcher.ledger.ranking import values_by_candidate
from searcher.ledger.tables import CheckpointRow, ExportRow, StudyRow, utc_now
from searcher.ledger.watch import frozen_trials
from searcher.storage.mirror import local_root, storage_at
from searcher.study.objectives import Direction, Objective, pareto_front
from searcher.study.rerank import CANDIDATE, ranking

__all__ = ["collect", "needed_to_go_on"]


def collect(
    database: Database,
    study_name: str,
    *,
    keep_best: int | None,
    dry_run: bool = False,
    trials: Collection[int] | None = None,
) -> Freed:
    """Delete a study's checkpoint files that nothing needs, also while a driver runs, and return what was freed.

    Kept are: all files of a RUNNING trial; all files of a trial from which a WAITING or RUNNING retry resumes; `best`
    of the best trials; and every file that an export or a child study uses. Logs, histories, configurations and files
    that searcher did not write are never deleted. A record is marked before its file is deleted: after a crash between
    the two, the next call deletes the file.

    Args:
        database: The study database.
        study_name: Name of the study.
        keep_best: Number of best COMPLETE trials whose `best` is kept; None to keep that of every trial.
        dry_run: Whether to delete nothing, and only return what would be deleted.
        trials: Numbers of the trials to process; None for all.

    Raises:
        UserError: There is no such study, its trials were deleted from Optuna's tables, or its checkpoints are not on
            this machine.
    """
    row = database.study_row(study_name)
    frozen = frozen_trials(database, study_name)
    records = _records(database, row.id)
    root = local_root(row.storage_root)
    if records and not root.is_dir():
        raise StudyConflictError(
            f"--study {study_name}: its checkpoints must lie on this machine, in {root}, got no such folder; "
            "collect where they lie"
        )
    rules = Rules(
        at_work=frozenset(trial.number for trial in frozen if not trial.state.is_finished()),
        needed=needed_to_go_on(frozen),
        done=frozenset(t.number for t in frozen if t.state in (TrialState.COMPLETE, TrialState.PRUNED)),
        keeps_best=_with_best(frozen, Objective(row.objective), keep_best, database.directions(study_name)),
        protected=_protected(database, row),
    )
    numbers = [trial.number for trial in frozen if trials is None or trial.number in trials]
    storage = storage_at(row.storage_root)
    plan = ObjectPlan(study_name, root, storage) if storage.is_remote else FolderPlan(study_name, root)
    plan.decide(numbers, records, rules)
    if not dry_run:
        _mark_removed(database, plan.given_up)
        plan.remove()
    return plan.freed()


def needed_to_go_on(trials: Sequence[FrozenTrial]) -> frozenset[int]:
    """Return the numbers of the trials from whose checkpoints a WAITING or RUNNING retry resumes."""
    retried = {trial.number: trial.user_attrs.get("retry_of") for trial in trials}
    needed: set[int] = set()
    for trial in trials:
        number = None if trial.state.is_finished() else retried[trial.number]
        while number is not None and number not in needed:
            needed.add(number)
            number = retried.get(number)
    return frozenset(needed)


def _with_best(
    trials: Iterable[FrozenTrial],
    objective: Objective,
    keep_best: int | None,
    directions: Sequence[Direction],
) -> frozenset[int]:
    """Return the trials whose `best` stays.

    Of several objectives, the best compromises are among them; in a rerank, they are all runs of the best candidates.
    """
    if keep_best is None:
        return frozenset(trial.number for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    again = values_by_candidate((trial.params, trial.values[0]) for trial in complete)
    if again:
        winners = ranking(again, objective)[:keep_best]
        return frozenset(trial.number for trial in complete if trial.params.get(CANDIDATE) in winners)
    ranked = sorted((objective.cost(trial.values[0]), trial.number) for trial in complete)
    front: list[int] = []
    if keep_best and len(directions) > 1:
        front = [complete[n].number for n in pareto_front([t.values for t in complete], directions)]
    return frozenset([*(number for _, number in ranked[:keep_best]), *front])


def _records(database: Database, study_id: int) -> Mapping[int, list[CheckpointRow]]:
    """Return the records that count, by trial."""
    kept = (CheckpointRow.study_id == study_id, CheckpointRow.removed_at.is_(None))
    by_trial: dict[int, list[CheckpointRow]] = {}
    with database.read() as session:
        for row in session.scalars(sa.select(CheckpointRow).where(*kept)):
            by_trial.setdefault(row.trial, []).append(row)
    return by_trial


def _protected(database: Database, row: StudyRow) -> frozenset[str]:
    with database.read() as session:
        exported = sa.select(ExportRow.checkpoint_sha256).where(ExportRow.study_id == row.id)
        began_from = sa.select(
            StudyRow.parent_sha256
        )  # of any study: a rerank of a fine-tuned one begins there too
        digests = [*session.scalars(exported), *session.scalars(began_from)]
    return frozenset(digest for digest in digests if digest is not None)


def _mark_removed(database: Database, records: Sequence[CheckpointRow]) -> None:
    if not records:
        return
    now = utc_now()
    with database.write() as session:
        for row in records:  # by its digest too: a record that was written anew meanwhile is another one
            same = (CheckpointRow.id == row.id, CheckpointRow.sha256 == row.sha256)
            session.execute(sa.update(CheckpointRow).where(*same).values(removed_at=now))
