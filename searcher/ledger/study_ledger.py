"""Writing down what happens in one study, in the order that keeps it true after a crash at any line."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import StudyConflictError
from searcher.ledger.database import Database
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.tables import CheckpointRow, EpochRow, StudyRow, utc_now
from searcher.study.space import Value
from searcher.study.spec import StudySpec

__all__ = ["MAX_RETRIES", "StudyLedger"]

logger = logging.getLogger(__name__)

MAX_RETRIES = 2
"""How often the parameters of an interrupted trial are tried again."""


class StudyLedger:
    """The driver's pen. One per study at a time: hold the `Lease` while writing.

    Every method is one step that leaves the database true; a state always lands after what it rests on.
    """

    def __init__(
        self, database: Database, spec: StudySpec, sampler: optuna.samplers.BaseSampler | None = None
    ) -> None:
        self.database = database
        self.spec = spec
        self.study_id = database.study_row(spec.name).id
        self.optuna_study = optuna.load_study(
            study_name=spec.name,
            storage=database.optuna_storage,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
        )

    @classmethod
    def register(
        cls,
        database: Database,
        spec: StudySpec,
        *,
        data_source: str,
        data_fingerprint: str,
        storage_root: Path,
    ) -> None:
        """Create the study, or check that the one in the database means the same. Changes no existing study.

        Raises:
            StudyConflictError: The study exists with another objective, configuration, space or data (the
                message names each difference), its checkpoints lie elsewhere, or the folder holds trials of a
                study that the database does not know.
        """
        with database.write() as session:
            row = session.scalar(sa.select(StudyRow).where(StudyRow.name == spec.name))
            if row is not None:
                _refuse_differences(row, spec, data_fingerprint)
                uris = session.scalars(sa.select(CheckpointRow.uri).where(CheckpointRow.study_id == row.id))
                _refuse_lost_checkpoints(row, list(uris), storage_root)
                return
        _refuse_foreign_trials(spec.name, storage_root)
        study = optuna.create_study(
            study_name=spec.name,
            storage=database.optuna_storage,
            direction=spec.objective.direction,
            load_if_exists=True,
        )
        if study.direction.name.lower() != spec.objective.direction:
            raise StudyConflictError(
                f"--study {spec.name}: must {spec.objective.direction} {spec.objective.name}, got an Optuna study of "
                "that name with the other direction; choose another name with --set study.name=NAME"
            )
        with database.write() as session:
            if session.scalar(sa.select(StudyRow.id).where(StudyRow.name == spec.name)) is None:
                session.add(
                    StudyRow(
                        name=spec.name,
                        objective=spec.objective.name,
                        budget=spec.study.trials,
                        spec_text=spec.text,
                        identity=spec.identity(),
                        data_source=data_source,
                        data_fingerprint=data_fingerprint,
                        storage_root=str(storage_root),
                    )
                )

    def begin_launch(self, *, data_source: str, storage_root: Path) -> None:
        """Write down what may change between launches. Hold the lease: another driver may be running."""
        with self.database.write() as session:
            row = session.get_one(StudyRow, self.study_id)
            row.budget = self.spec.study.trials
            row.spec_text = self.spec.text
            row.data_source = data_source
            row.storage_root = str(storage_root)

    # ---- the trials ------------------------------------------------------------------------------------

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's trials in the given states, or all."""
        return self.optuna_study.get_trials(deepcopy=False, states=states or None)

    def num_done(self) -> int:
        """Return how much of the budget is used: COMPLETE and PRUNED trials."""
        return len(self.trials(TrialState.COMPLETE, TrialState.PRUNED))

    def enqueue(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Queue the known-good points of the study file that are not in the study yet."""
        for point in points:
            self.optuna_study.enqueue_trial(dict(point), user_attrs={"enqueued": True}, skip_if_exists=True)

    def reconcile(self, reason: str, *, counts: bool = True) -> list[int]:
        """Turn trials that a former driver left RUNNING into FAIL and queue their parameters again.

        The retry is queued first and found again by `retry_of`, so that a crash between the two steps neither
        loses nor doubles it.

        Args:
            reason: Becomes their `fail_reason`.
            counts: Whether this was one of the attempts that `MAX_RETRIES` limits; a person's Ctrl-C is not.

        Returns:
            The numbers of the trials that were left.
        """
        left = self.trials(TrialState.RUNNING)
        for trial in left:
            self.fail(trial.number, reason, retry=True, counts=counts)
        return [trial.number for trial in left]

    def note(self, number: int, **notes: Any) -> None:
        """Write notes on a running trial; None values are left out."""
        trial = optuna.trial.Trial(self.optuna_study, self.trial(number)._trial_id)
        for key, value in notes.items():
            if value is not None:
                trial.set_user_attr(key, value)

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write down one epoch of a running trial; a second report of the same epoch changes nothing."""
        with self.database.write() as session:
            where = (EpochRow.study_id == self.study_id, EpochRow.trial == number, EpochRow.epoch == epoch)
            if session.scalar(sa.select(EpochRow.id).where(*where)) is None:
                finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
                session.add(EpochRow(study_id=self.study_id, trial=number, epoch=epoch, metrics=finite))
        trial = self.trial(number)
        if epoch not in trial.intermediate_values:
            value = float(metrics[self.spec.objective.name])
            self.database.optuna_storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def inherit(self, number: int, retry_of: int, *, up_to_epoch: int) -> None:
        """Give a retry the epochs of the trial that it goes on from, so that its curve is whole."""
        with self.database.read() as session:
            where = (
                EpochRow.study_id == self.study_id,
                EpochRow.trial == retry_of,
                EpochRow.epoch <= up_to_epoch,
            )
            rows = list(session.scalars(sa.select(EpochRow).where(*where).order_by(EpochRow.epoch)))
        for row in rows:
            self.report(number, row.epoch, row.metrics)

    def checkpoint(self, number: int, checkpoint: CheckpointRecord) -> None:
        """Write down a trial's newest checkpoint of its kind."""
        with self.database.write() as session:
            where = (
                CheckpointRow.study_id == self.study_id,
                CheckpointRow.trial == number,
                CheckpointRow.kind == checkpoint.kind,
            )
            row = session.scalar(sa.select(CheckpointRow).where(*where))
            if row is None:
                row = CheckpointRow(study_id=self.study_id, trial=number)
                session.add(row)
            for field, value in asdict(checkpoint).items():
                setattr(row, field, value)
            row.recorded_at = utc_now()

    def last_checkpoint(self, number: int) -> CheckpointRow | None:
        """Return the row of a trial's checkpoint to go on from."""
        with self.database.read() as session:
            where = (
                CheckpointRow.study_id == self.study_id,
                CheckpointRow.trial == number,
                CheckpointRow.kind == "last",
            )
            return session.scalar(sa.select(CheckpointRow).where(*where))

    def complete(self, number: int, value: float, *, best_epoch: int, stop_reason: str) -> None:
        """End a trial that came to its end."""
        self.note(number, best_epoch=best_epoch, stop_reason=stop_reason)
        self.optuna_study.tell(number, value)

    def prune(self, number: int, epoch: int) -> None:
        """End a trial that the scheduler stopped after an epoch; its value is its last report."""
        self.note(number, pruned_epoch=epoch, stop_reason="scheduler")
        self.optuna_study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, *, retry: bool, counts: bool = True) -> bool:
        """End a trial that could not go on; queue its parameters again if asked and not tried too often.

        Args:
            number: The trial.
            reason: Becomes its `fail_reason`.
            retry: Whether to queue its parameters again.
            counts: Whether this was one of the attempts that `MAX_RETRIES` limits.

        Returns:
            Whether it was queued again.
        """
        trial = self.trial(number)
        attempt = int(trial.user_attrs.get("attempt", 0))
        # A queued point whose parameters were not all drawn yet is queued again as it was.
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        again = retry and (attempt < MAX_RETRIES or not counts) and bool(params)
        if again and not any(other.user_attrs.get("retry_of") == number for other in self.trials()):
            self.optuna_study.enqueue_trial(
                params, user_attrs={"retry_of": number, "attempt": attempt + counts}
            )
        self.note(number, fail_reason=reason)
        self.optuna_study.tell(number, state=TrialState.FAIL)
        return again

    def trained_before(self, number: int) -> int | None:
        """Return the number of an earlier trial with equal parameters that ran to an end or runs, or None."""
        params = self.trial(number).params
        for other in self.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING):
            if other.number != number and other.params == params:
                return other.number
        return None

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial as the database has it now."""
        storage = self.database.optuna_storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.optuna_study._study_id, number)
        return storage.get_trial(trial_id)


def _refuse_differences(row: StudyRow, spec: StudySpec, data_fingerprint: str) -> None:
    differences = _differences(row, spec, data_fingerprint)
    if differences:
        raise StudyConflictError(
            "\n".join(
                f"--study {spec.name}: must stay what it was when it began; {difference}; "
                "launch as before, or under another name with --set study.name=NAME"
                for difference in differences
            )
        )


def _refuse_lost_checkpoints(row: StudyRow, uris: Sequence[str], storage_root: Path) -> None:
    """Refuse another storage root, unless the checkpoints were moved there."""
    if str(storage_root) != row.storage_root and any(not (storage_root / uri).is_file() for uri in uris):
        raise StudyConflictError(
            f"--storage {storage_root}: must hold the study's checkpoints, got a folder without them; "
            f"launch with --storage {row.storage_root}, or move them"
        )


def _refuse_foreign_trials(name: str, storage_root: Path) -> None:
    folder = storage_root / name
    if folder.is_dir() and any(folder.glob("trial-*")):
        raise StudyConflictError(
            f"--storage {storage_root}: must hold no trials of a study that the database does not know, got {folder}; "
            "name the database it belongs to, or choose another --storage"
        )


def _differences(row: StudyRow, spec: StudySpec, data_fingerprint: str) -> list[str]:
    old, new = row.identity, spec.identity()
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    lines = [f"{key} was {_shown(old.get(key))}, got {_shown(new.get(key))}" for key in changed]
    if row.data_fingerprint != data_fingerprint:
        lines.append(
            f"data was {row.data_source} ({row.data_fingerprint[:12]}), got other data ({data_fingerprint[:12]})"
        )
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        when = f" when {', '.join(value['when'])}" if value.get("when") else ""
        return f"{value['range']}{when}"
    return "not set" if value is None else repr(value)
