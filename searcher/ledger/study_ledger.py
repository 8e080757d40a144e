"""Writing down what happens in one study, in the order that keeps it true after a crash at any line."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from searcher.ledger.checkpoint_rows import ResumePoint, newest_whole, read_digests, write_checkpoint
from searcher.ledger.disposal import Freed
from searcher.ledger.epoch_rows import read_epochs, write_epoch
from searcher.ledger.more_epochs import CONTINUED, CONTINUES, EPOCHS, has_checkpoint, to_continue
from searcher.ledger.optuna_internals import id_of_trial, storage_of_study
from searcher.ledger.recorded_study import RecordedStudy, WrittenTrial, retried
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.retention import collect
from searcher.ledger.trial_artifacts import keep_artifacts
from searcher.study.objectives import direction_of
from searcher.study.space import Value

__all__ = ["MAX_RETRIES", "Proposal", "StudyLedger"]

MAX_RETRIES = 2
"""How often the parameters of an interrupted trial are tried again."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The parameters and notes of a trial to start."""

    params: Mapping[str, Value]
    notes: Mapping[str, Any]
    """Where it comes from; becomes its notes."""


class StudyLedger(RecordedStudy):
    """Writes a study's progress to the database, for its driver, which must hold the `Lease`.

    Every method is one step after which the database is consistent; a state is written after everything that it depends
    on. Steps may be repeated: with `retry_policy`, they are repeated until the database has accepted them.
    """

    # ---- beginning a trial -----------------------------------------------------------------------------

    @retried
    def enqueue(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Queue the known-good points of the study file that the study does not have yet."""
        for point in points:
            self.optuna_study.enqueue_trial(dict(point), user_attrs={"enqueued": True}, skip_if_exists=True)

    @retried
    def continue_best(self) -> list[int]:
        """Queue the trials that are to be continued, if the study now has more epochs than before.

        They are chosen once for each number of epochs, and recorded before the first is queued. So a launch after an
        interrupted one continues the same trials.

        Returns:
            The numbers of the trials that were queued now, best first.
        """
        num_epochs = self.spec.max_epochs
        if EPOCHS in self.spec.space or (self.spec.parent is not None and self.spec.parent.how == "rerank"):
            return []
        decided = dict(self.optuna_study.user_attrs.get(CONTINUED, {}))
        if str(num_epochs) not in decided:
            best = to_continue(self.trials(), self.spec.objective, num_epochs)
            if not best:
                return []
            there = {each.number for each in self.database.trials(self.spec.name) if has_checkpoint(each)}
            decided[str(num_epochs)] = [number for number in best if number in there]
            self.optuna_study.set_user_attr(CONTINUED, decided)
        taken = {trial.user_attrs.get("retry_of") for trial in self.trials()}
        queued = [number for number in decided[str(num_epochs)] if number not in taken]
        for number in queued:
            trial = self.trial(number)
            notes = {"retry_of": number, "attempt": 0, CONTINUES: number}
            parts = trial.user_attrs.get("micro_batches")
            self.optuna_study.enqueue_trial(
                trial.params, user_attrs=notes | ({} if parts is None else {"micro_batches": parts})
            )
        return queued

    @retried
    def begin_trial(
        self, running: Collection[int], propose: Callable[[], Proposal] | None = None
    ) -> tuple[int, dict[str, Value]]:
        """Start the next trial, and return its number and parameters.

        Queued trials come first, retries before others; without any, a new trial is proposed. An outage in the middle
        may leave RUNNING trials whose numbers nobody received. These become FAIL, and their parameters are queued
        again.

        Args:
            running: Numbers of the trials that the driver knows to be running; all others are such leftovers.
            propose: Function that returns the parameters of a new trial; None to use Optuna's sampler.
        """
        self.database.ping()  # Optuna would try silently, and each of its tries may leave another trial
        if propose is not None and not self.trials(TrialState.WAITING):
            proposal = propose()
            self.optuna_study.enqueue_trial(dict(proposal.params), user_attrs=dict(proposal.notes))
        trial = self._queued_retry() or self.optuna_study.ask()
        params = dict(self.spec.space.suggest(trial))
        if trial.number in self._written:
            raise self._set_back(f"trial {trial.number} must be in the database, but is gone")
        self._written[trial.number] = WrittenTrial(
            storage_of_study(self.optuna_study).get_trial(id_of_trial(trial)).params
        )
        for left in self.trials(TrialState.RUNNING):
            if left.number != trial.number and left.number not in running:
                self.fail(left.number, "the database went away while it began", retry=True, counts=False)
        return trial.number, params

    def _queued_retry(self) -> optuna.Trial | None:
        """Begin the first queued retry. Optuna would take what was queued first, which may use up the budget."""
        for trial in self.trials(TrialState.WAITING):
            if "retry_of" in trial.user_attrs and self.database.optuna_storage.set_trial_state_values(
                id_of_trial(trial), TrialState.RUNNING
            ):
                return optuna.Trial(self.optuna_study, id_of_trial(trial))
        return None

    @retried
    def note(self, number: int, **notes: Any) -> None:
        """Write notes on a running trial; None values are left out."""
        trial = self.trial(number)
        for key, value in notes.items():
            if value is not None and trial.user_attrs.get(key) != value:
                self.database.optuna_storage.set_trial_user_attr(id_of_trial(trial), key, value)

    @retried
    def resume_point(self, number: int, storage_root: Path) -> ResumePoint:
        """Return the newest intact checkpoint from which a retry can resume, and record damaged ones as such.

        The checkpoints of all trials that it retries are read and compared with their digests.
        """
        return newest_whole(self.database, self.study_id, self.ancestors(number), storage_root)

    @retried
    def inherit(self, number: int, retry_of: int, *, up_to_epoch: int) -> None:
        """Copy the epochs of an interrupted trial to its retry, so that the retry's learning curve is complete.

        Args:
            number: Number of the retry.
            retry_of: Number of the trial that the retry resumes.
            up_to_epoch: Number of the last epoch to copy, from 1.
        """
        epochs = read_epochs(self.database, self.study_id, retry_of, up_to=up_to_epoch)
        for epoch, metrics in epochs.items():
            self.report(number, epoch, metrics)

    # ---- while it runs ---------------------------------------------------------------------------------

    @retried
    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one epoch of a running trial; nothing happens if the epoch is recorded already.

        Args:
            number: Number of the trial.
            epoch: Number of the epoch, from 1.
            metrics: Metrics by name, including the objective.
        """
        if number in self._written:
            self._written[number].epochs[epoch] = dict(metrics)
        write_epoch(self.database, self.study_id, number, epoch, metrics)
        trial = self.trial(number)
        if epoch not in trial.intermediate_values:
            value = metrics[self.spec.objective.name]
            self.database.optuna_storage.set_trial_intermediate_value(
                id_of_trial(trial), epoch, math.nan if value is None else float(value)
            )

    @retried
    def checkpoint(self, number: int, checkpoint: CheckpointRecord) -> None:
        """Record a trial's newest checkpoint of its kind; the earlier `last` becomes `previous`."""
        if number in self._written:
            self._written[number].checkpoints[checkpoint.kind] = checkpoint
        write_checkpoint(self.database, self.study_id, number, checkpoint)

    @retried
    def attach(self, number: int, names: Sequence[str], storage_root: Path) -> None:
        """Copy files in a running trial's folder to Optuna's artifact store in the storage root, for its dashboard.

        Args:
            number: Number of the trial. Nothing happens if it has ended.
            names: Names of the files.
            storage_root: Folder of the storage root on this machine.

        Raises:
            OSError: A file could not be copied; those before it were.
        """
        trial = self.trial(number)
        if not trial.state.is_finished():
            keep_artifacts(self.database.optuna_storage, self.spec.name, trial, names, storage_root)

    # ---- ending a trial --------------------------------------------------------------------------------

    @retried
    def complete(
        self,
        number: int,
        value: float,
        *,
        best_epoch: int,
        stop_reason: str,
        tuned: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a trial is COMPLETE.

        Args:
            number: Number of the trial.
            value: Best value of the objective.
            best_epoch: Number of the epoch with that value.
            stop_reason: Reason for the trial's end.
            tuned: Tuned settings of the best checkpoint, stored as a note; None if it was not tuned.
        """
        if self._is_ended(number):
            return
        self._write_again(number)
        self.note(
            number,
            best_epoch=best_epoch,
            stop_reason=stop_reason,
            tuned=None if tuned is None else dict(tuned),
        )
        self.optuna_study.tell(number, [value, *self._further(number, best_epoch)])
        self._written.pop(number, None)

    @retried
    def prune(self, number: int, epoch: int) -> None:
        """Record that the scheduler stopped a trial after an epoch: PRUNED, with the value of its last report."""
        if self._is_ended(number):
            return
        self._write_again(number)
        self.note(number, pruned_epoch=epoch, stop_reason="scheduler")
        self.optuna_study.tell(number, state=TrialState.PRUNED)
        self._written.pop(number, None)

    @retried
    def fail(
        self,
        number: int,
        reason: str,
        *,
        retry: bool,
        counts: bool = True,
        micro_batches: int | None = None,
    ) -> bool:
        """Record that a trial is FAIL; if `retry` is set and it was not tried too often, queue its parameters again.

        The retry is queued first, and is found again by its note `retry_of`. So a crash between the two steps neither
        loses nor doubles it.

        Args:
            number: Number of the trial.
            reason: The reason, stored as `fail_reason`.
            retry: Whether to queue its parameters again.
            counts: Whether this attempt counts for the limit `MAX_RETRIES`.
            micro_batches: Number of parts of a batch that the retry processes one after the other; None for the same as
                before.

        Returns:
            Whether the parameters were queued again.
        """
        trial = self.trial(number)
        attempt = int(trial.user_attrs.get("attempt", 0))
        # A queued point whose parameters were not all drawn yet is queued again as it was.
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        again = retry and (attempt < MAX_RETRIES or not counts) and bool(params)
        if trial.state.is_finished():
            return again
        if again and not any(other.user_attrs.get("retry_of") == number for other in self.trials()):
            notes = {"retry_of": number, "attempt": attempt + counts}
            parts = micro_batches or trial.user_attrs.get("micro_batches")
            if parts is not None:
                notes["micro_batches"] = parts
            if CONTINUES in trial.user_attrs:
                notes[CONTINUES] = trial.user_attrs[CONTINUES]
            self.optuna_study.enqueue_trial(params, user_attrs=notes)
        self.note(number, fail_reason=reason)
        self.optuna_study.tell(number, state=TrialState.FAIL)
        self._written.pop(number, None)
        return again

    def reconcile(self, reason: str, *, counts: bool = True) -> list[int]:
        """Record trials that an earlier driver left RUNNING as FAIL, and queue their parameters again.

        Args:
            reason: The reason, stored as `fail_reason`.
            counts: Whether these attempts count for the limit `MAX_RETRIES`; after a user's Ctrl-C they do not.

        Returns:
            The numbers of the trials.
        """
        left = self.trials(TrialState.RUNNING)
        for trial in left:
            self.fail(trial.number, reason, retry=True, counts=counts)
        return [trial.number for trial in left]

    @retried
    def collect(self, number: int, *, keep_best: int | None) -> Freed:
        """Delete the checkpoints that are not needed any more after a trial became COMPLETE or PRUNED.

        Args:
            number: Number of the trial.
            keep_best: Number of best trials whose best checkpoint is kept; None to keep that of every trial.
        """
        return collect(
            self.database,
            self.spec.name,
            keep_best=keep_best,
            trials=[number, *self.ancestors(number)] if keep_best is None else None,
        )

    # ---- within ----------------------------------------------------------------------------------------

    def _further(self, number: int, epoch: int) -> list[float]:
        """Return the further objectives at an epoch; what was never measured counts as infinitely bad."""
        secondary_objectives = self.spec.study.secondary_objectives
        if not secondary_objectives:
            return []
        metrics = read_epochs(self.database, self.study_id, number).get(epoch, {})
        worst = {"minimize": math.inf, "maximize": -math.inf}
        return [
            worst[direction_of(name)] if metrics.get(name) is None else float(metrics[name])
            for name in secondary_objectives
        ]

    def _write_again(self, number: int) -> None:
        """Write what the database has lost of a trial before it ends: a server that lagged may have taken over."""
        written = self._written.get(number)
        if written is None:
            return
        epochs = read_epochs(self.database, self.study_id, number)
        digests = read_digests(self.database, self.study_id, number)
        steps = self.trial(number).intermediate_values
        for epoch, metrics in sorted(written.epochs.items()):
            if epoch not in epochs or epoch not in steps:
                self.report(number, epoch, metrics)
        for kind, record in list(written.checkpoints.items()):
            if digests.get(kind) != record.sha256:
                self.checkpoint(number, record)

    def _is_ended(self, number: int) -> bool:
        return self.trial(number).state.is_finished()
