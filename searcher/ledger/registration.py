"""Making a study in the database, or finding that the one there is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy as sa
from sqlalchemy.orm import Session

from searcher.exceptions import StudyConflictError
from searcher.ledger.database import Database
from searcher.ledger.identity import differences, left_to_data_before
from searcher.ledger.more_epochs import EPOCHS, check_more_epochs, is_raised
from searcher.ledger.tables import CheckpointRow, StudyRow
from searcher.ledger.this_launch import NORMALISES
from searcher.storage.mirror import root_text, storage_of
from searcher.storage.object_store import below
from searcher.study.layout import inside
from searcher.study.spec import StudySpec

__all__ = ["Registration"]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The study that a launch wants to run, with its data and storage root."""

    spec: StudySpec
    data_source: str
    data_fingerprint: str
    storage_root: Path
    normalised_since: str = ""
    """Why images are normalised by percentiles, where that is left to the data and so decided; else empty."""

    def check(self, database: Database | None) -> None:
        """Check that the study can be launched with a database. Changes nothing.

        Args:
            database: The study database; None if it does not exist yet.

        Raises:
            StudyConflictError: The study exists with another objective, configuration, space or data; the message names
                each difference. Or its checkpoints are elsewhere, Optuna's tables lack it, or the folder holds trials
                of an unknown study.
            UserError: The study's folder is a link that leads out of the storage root.
        """
        name = self.spec.name
        inside(self.storage_root, name)
        known = False
        if database is not None:
            with database.read() as session:
                known = self._check_row(session)
            if known:
                database.optuna_study_id(name)
                if is_raised(database.study_row(name), self.spec):
                    check_more_epochs(database, self.spec)
                self._refuse_mixture(database)
        if not known and self._holds_trials():
            root = root_text(self.storage_root)
            raise StudyConflictError(
                f"--storage {root}: must hold no trials of a study that the database does not know, "
                f"got {below(root, name)}; name the database it belongs to, or choose another --storage"
            )

    def _refuse_mixture(self, database: Database) -> None:
        """Refuse to mix trials on normalised images with trials on unchanged images."""
        versions = database.versions(self.spec.name)
        is_older = any(NORMALISES not in each for each in versions)
        if (
            versions
            and not is_older
            and (changed := left_to_data_before(database.study_row(self.spec.name), self.spec))
        ):
            raise _conflict(self.spec, [changed])
        if self.normalised_since and is_older:
            raise StudyConflictError(
                f"--study {self.spec.name}: began before images were normalised, which these would be now, since "
                f"{self.normalised_since}; go on as before with --set data.normalisation=fixed, or begin anew with "
                "--set study.name=NAME"
            )

    def _holds_trials(self) -> bool:
        name = self.spec.name
        storage = storage_of(self.storage_root)
        if storage.is_remote:
            return any(each.startswith(f"{name}/trial-") for each in storage.list(name))
        folder = self.storage_root / name  # a trial's folder without files is one too
        return folder.is_dir() and any(folder.glob("trial-*"))

    def register(self, database: Database) -> None:
        """Create the study in the database if it does not exist. An existing one is not changed.

        Raises:
            StudyConflictError: As for `check`; or Optuna has a study of that name with the other direction.
        """
        self.check(database)
        spec = self.spec
        with database.errors("written"):
            study = optuna.create_study(
                study_name=spec.name,
                storage=database.optuna_storage,
                directions=spec.directions,
                load_if_exists=True,
            )
        if [each.name.lower() for each in study.directions] != spec.directions:
            raise StudyConflictError(
                f"--study {spec.name}: must {spec.objective.direction} {spec.objective.name}, got an Optuna study of "
                "that name with other directions; choose another name with --set study.name=NAME"
            )
        with database.write() as session:
            if self._check_row(session):
                return
            row = StudyRow(
                name=spec.name,
                objective=spec.objective.name,
                identity=spec.identity(),
                data_fingerprint=self.data_fingerprint,
                **self._changeable(),
            )
            try:
                with session.begin_nested():
                    session.add(row)
            except sa.exc.IntegrityError:  # another driver was faster
                self._check_row(session)

    def begin_launch(self, database: Database) -> None:
        """Update the study's row with what may change between launches. The caller must hold the lease."""
        with database.write() as session:
            row = session.scalars(sa.select(StudyRow).where(StudyRow.name == self.spec.name)).one()
            for column, value in self._changeable().items():
                setattr(row, column, value)
            if is_raised(row, self.spec):
                row.identity = {**row.identity, EPOCHS: self.spec.identity()[EPOCHS]}

    def _changeable(self) -> dict[str, object]:
        return {
            "budget": self.spec.study.trials,
            "spec_text": self.spec.text,
            "spec_source": self.spec.origin,
            "overrides": dict(self.spec.overrides),
            "data_source": self.data_source,
            "storage_root": root_text(self.storage_root),
            **self._lineage(),
        }

    def _lineage(self) -> dict[str, object]:
        parent = self.spec.parent
        if parent is None:
            return {}
        sha256 = self.spec.fixed.get("warm_start.sha256") or None
        return {
            "parent_study": parent.study,
            "parent_trials": list(parent.trials),
            "parent_trial": parent.trials[0] if parent.how == "finetune" and parent.trials else None,
            "parent_sha256": sha256,
        }

    def _check_row(self, session: Session) -> bool:
        """Refuse a study that means something else; return whether there is one."""
        row = session.scalar(sa.select(StudyRow).where(StudyRow.name == self.spec.name))
        if row is None:
            return False
        _refuse_differences(row, self.spec, self.data_fingerprint)
        kept = (
            CheckpointRow.study_id == row.id,
            CheckpointRow.removed_at.is_(None),
            CheckpointRow.problem.is_(None),  # what is known to be lost cannot be moved
        )
        uris = session.scalars(sa.select(CheckpointRow.uri).where(*kept))
        _refuse_lost_checkpoints(row, list(uris), self.storage_root)
        return True


def _refuse_differences(row: StudyRow, spec: StudySpec, data_fingerprint: str) -> None:
    changed = differences(row, spec, data_fingerprint)
    if is_raised(row, spec):  # `check_more_epochs` decides
        changed = [each for each in changed if not each.startswith(f"{EPOCHS} was ")]
    if changed:
        raise _conflict(spec, changed)


def _conflict(spec: StudySpec, changed: list[str]) -> StudyConflictError:
    return StudyConflictError(
        *(
            f"--study {spec.name}: must stay what it was when it began; {difference}; "
            "launch as before, or under another name with --set study.name=NAME"
            for difference in changed
        )
    )


def _refuse_lost_checkpoints(row: StudyRow, uris: Sequence[str], storage_root: Path) -> None:
    """Refuse another storage root, unless the checkpoints were moved there."""
    root = root_text(storage_root)
    if root == row.storage_root:
        return
    there = storage_of(storage_root).list(row.name)
    if any(uri not in there for uri in uris):
        raise StudyConflictError(
            f"--storage {root}: must hold the study's checkpoints, got a folder without them; "
            f"launch with --storage {row.storage_root}, or move them"
        )
