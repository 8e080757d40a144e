"""A study in the database as its driver knows it: what is there, what this driver has written, and what people read."""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import DatabaseReplacedError
from searcher.ledger.database import Database
from searcher.ledger.more_epochs import CONTINUES
from searcher.ledger.optuna_internals import id_of_study
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.study_note import launch_text, read_note, study_text, write_note
from searcher.ledger.tables import LaunchRow
from searcher.study.space import Value
from searcher.study.spec import StudySpec

__all__ = ["RecordedStudy", "WrittenTrial", "retried"]

_Step = TypeVar("_Step", bound=Callable[..., Any])
_T = TypeVar("_T")


@dataclass(frozen=True)
class WrittenTrial:
    """The data of a running trial that this driver has written, to write them again if the database lost them."""

    params: Mapping[str, Value]
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRecord] = field(default_factory=dict)


def retried(method: _Step) -> _Step:
    """Decorator for methods that write: if the database cannot be reached, wait and call the method again.

    So every such method must give the same result if an earlier call was recorded in part, or completely but without
    confirmation.
    """

    @functools.wraps(method)
    def step(self: "RecordedStudy", *args: Any, **kwargs: Any) -> Any:
        def once() -> Any:
            with self.database.errors("written"):
                try:
                    return method(self, *args, **kwargs)
                except KeyError:  # Optuna's word for a study or trial that is not there
                    self.database.optuna_study_id(self.spec.name)
                    raise

        return once() if self.retry_policy is None else self.retry_policy(once)

    return cast("_Step", step)


class RecordedStudy:
    """A study in the database, read through Optuna and through our tables.

    While the database cannot be reached, reads wait as `retry_policy` says.

    Args:
        database: The open database, with the study registered.
        spec: The study.
        sampler: Sampler that proposes parameters; None for Optuna's default.
        retry_policy: How to wait while the database cannot be reached; None to raise an error.

    Raises:
        UnknownStudyError: The study is not registered.
        StudyConflictError: Any method, if the study was deleted from Optuna's tables.
        DatabaseAwayError: Any method, if `retry_policy` gives up.
    """

    def __init__(
        self,
        database: Database,
        spec: StudySpec,
        sampler: optuna.samplers.BaseSampler | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self.database = database
        self.spec = spec
        self.retry_policy = retry_policy
        self._written: dict[int, WrittenTrial] = {}  # by number of a running trial
        self.study_id = database.study_row(spec.name).id
        database.optuna_study_id(spec.name)
        with database.errors("read"):
            self.optuna_study = optuna.load_study(
                study_name=spec.name,
                storage=database.optuna_storage,
                sampler=sampler,
                pruner=optuna.pruners.NopPruner(),
            )

    @retried
    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's trials in the given states; all if none is given."""
        return self.optuna_study.get_trials(deepcopy=False, states=states or None)

    @retried
    def trial(self, number: int) -> FrozenTrial:
        """Return a trial in its present state in the database."""
        storage = self.database.optuna_storage
        try:
            trial_id = storage.get_trial_id_from_study_id_trial_number(id_of_study(self.optuna_study), number)
            found = storage.get_trial(trial_id)
        except KeyError:
            self.database.optuna_study_id(self.spec.name)
            raise self._set_back(f"trial {number} must be in the database, but is gone") from None
        written = self._written.get(number)
        if written is not None and found.params != written.params:
            raise self._set_back(f"trial {number} must have the parameters it began with, but has others")
        return found

    @retried
    def check_whole(self) -> None:
        """Check that every trial that this driver knows as finished has the same state in the database.

        Raises:
            DatabaseReplacedError: The database was replaced by an older copy.
        """
        states = {
            trial.number: trial.state
            for trial in self.database.optuna_storage.get_all_trials(id_of_study(self.optuna_study))
        }
        lost = [
            str(t.number) for t in self.trials() if t.state.is_finished() and states.get(t.number) != t.state
        ]
        if lost:
            raise self._set_back(f"the end of trial {', '.join(lost)} must be in the database, but is gone")

    def _set_back(self, what: str) -> DatabaseReplacedError:
        return DatabaseReplacedError(
            f"--study {self.spec.name}: {what}: an older copy of the database took its place, a backup or a server "
            "that lagged; bring back the newest copy if you can, then launch again"
        )

    def num_done(self) -> int:
        """Return the number of trials that count towards the budget: COMPLETE or PRUNED, and not continued ones."""
        return sum(
            CONTINUES not in each.user_attrs for each in self.trials(TrialState.COMPLETE, TrialState.PRUNED)
        )

    def num_to_do(self) -> int:
        """Return the number of unfinished trials: those left of the budget, and those continued to more epochs."""
        going_on = self.trials(TrialState.WAITING, TrialState.RUNNING)
        continued = sum(CONTINUES in each.user_attrs for each in going_on)
        return max(0, self.spec.study.trials - self.num_done()) + continued

    def trained_before(self, number: int) -> int | None:
        """Return the number of another COMPLETE, PRUNED or RUNNING trial with equal parameters; None if there is none.

        The trials that this one retries or continues are ignored.
        """
        params, own = self.trial(number).params, {number, *self.ancestors(number)}
        for other in self.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING):
            if other.number not in own and other.params == params:
                return other.number
        return None

    @retried
    def checkpoint_with(self, sha256: str) -> CheckpointRecord | None:
        """Return the record of the checkpoint with a digest, from any study; None if there is none."""
        return self.database.checkpoint_with(sha256)

    def ancestors(self, number: int) -> list[int]:
        """Return the numbers of the trials of which a trial is a retry, newest first."""
        found: list[int] = []
        retry_of = self.trial(number).user_attrs.get("retry_of")
        while retry_of is not None:
            found.append(retry_of)
            retry_of = self.trial(retry_of).user_attrs.get("retry_of")
        return found

    @retried
    def queued_twice(self, number: int) -> bool:
        """Return whether an earlier trial is a retry of the same trial, as after a step with a lost confirmation."""
        retry_of = self.trial(number).user_attrs.get("retry_of")
        return retry_of is not None and any(
            other.number < number and other.user_attrs.get("retry_of") == retry_of for other in self.trials()
        )

    # ---- what people read --------------------------------------------------------------------------------

    def note_launch(self, command: str, *, num_images: int, num_training_images: int) -> None:
        """Add this launch to the study's note in Optuna dashboard, and set the objectives' names there.

        The rest of the note stays, including text written by users.

        Args:
            command: Command line that the user typed; empty if there was none.
            num_images: Number of images in the data set.
            num_training_images: Number of them for training and validation.
        """
        storage, study_id = self.database.optuna_storage, id_of_study(self.optuna_study)
        before = self._with_retries(lambda: read_note(storage, study_id))
        row = self._with_retries(lambda: self.database.study_row(self.spec.name))
        launch = self._with_retries(self._newest_launch)
        text = before or study_text(
            row, self.spec, num_images=num_images, num_training_images=num_training_images
        )
        line = launch_text(launch, command)
        if line not in text:
            text = f"{text.rstrip()}\n{line}" if before else text + line
        self._with_retries(lambda: write_note(storage, study_id, text))
        self._with_retries(self._name_objectives)

    def _newest_launch(self) -> LaunchRow:
        with self.database.read() as session:
            query = sa.select(LaunchRow).where(LaunchRow.study_id == self.study_id)
            return session.scalars(query.order_by(LaunchRow.id.desc()).limit(1)).one()

    def _name_objectives(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.optuna_study.set_metric_names(
                [self.spec.objective.name, *self.spec.study.secondary_objectives]
            )

    @retried
    def _with_retries(self, act: Callable[[], _T]) -> _T:
        return act()
