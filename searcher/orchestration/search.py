"""Our Ray Tune search algorithm: Optuna's ask and tell, written down exactly.

Ray 2.60's own `OptunaSearch` records trials that the scheduler stopped as COMPLETE, drops every trial's last
report, and leaves failed ones RUNNING. Here each trial gets the state that it earned:

    the trainer came to its end         COMPLETE, with stop_reason
    the scheduler stopped it            PRUNED, with its epoch
    the trainer failed                  FAIL, with fail_reason
    its worker is gone                  FAIL, and its parameters are queued again from the last checkpoint

The calls come from one thread, that of `tune.run`. For one result Ray 2.60 calls, in this order: `on_trial_result`
(not if the trial ends with it), then `on_trial_complete` if it ends; for an errored trial `on_trial_complete`
without a reason, then the callback's `on_trial_error`, which has one.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from searcher.exceptions import StudyFileError
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.messages import TrialJob, TrialMessage
from searcher.study.config import TrialConfig
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest

__all__ = ["ErrorCallback", "StudySearch"]

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 5
"""After as many failed trials in a row the study stops: the next would fail too."""
MAX_REPEATED_PROPOSALS = 20
"""After as many proposals in a row that were trained before, the space counts as exhausted."""


class StudySearch(Searcher):  # type: ignore[misc]  # ray ships no types
    """Asks Optuna for trials up to the study's budget and records what becomes of them."""

    def __init__(
        self,
        ledger: StudyLedger,
        *,
        data: DataRequest,
        data_fingerprint: str,
        storage_root: Path,
        num_threads: int,
        listener: StudyListener,
        stop: threading.Event,
    ) -> None:
        super().__init__()
        self.problem: str | None = None
        """Why the search ended before its budget, None if it did not."""
        self.broken = False
        """Whether the problem is such that running trials had better stop too."""
        self._ledger = ledger
        self._data = data
        self._data_fingerprint = data_fingerprint
        self._storage_root = storage_root
        self._num_threads = num_threads
        self._listener = listener
        self._stop = stop
        self._running: dict[str, int] = {}  # Ray's trial id -> Optuna's trial number
        self._num_done = ledger.num_done()
        self._failures: list[str] = []

    @property
    def _spec(self) -> StudySpec:
        return self._ledger.spec

    # ---- Ray asks --------------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's configuration, None to wait, or `FINISHED`."""
        remaining = self._spec.study.trials - self._num_done
        if remaining <= 0 or self._stop.is_set() or self.problem is not None:
            return str(Searcher.FINISHED)
        if len(self._running) >= min(remaining, self._spec.resources.max_concurrent or remaining):
            return None
        job = self._next_job()
        if job is None:
            return None
        self._running[trial_id] = job.number
        return {"job": job, "num_threads": self._num_threads}

    def _next_job(self) -> TrialJob | None:
        study = self._ledger.optuna_study
        sampler = study.sampler
        try:
            for repeats in range(MAX_REPEATED_PROPOSALS):
                if repeats == MAX_REPEATED_PROPOSALS // 2:  # one that learns may insist on a point
                    study.sampler = optuna.samplers.RandomSampler()
                trial = study.ask()
                params = self._spec.space.suggest(trial)
                earlier = self._ledger.trained_before(trial.number)
                if earlier is None:
                    return self._job_of(trial, params)
                reason = f"equal parameters to trial {earlier}, not trained twice"
                self._ledger.fail(trial.number, reason, retry=False)
        finally:
            study.sampler = sampler
        self.problem = (
            f"{MAX_REPEATED_PROPOSALS} proposals in a row, half of them at random, were trained before: "
            "the space is exhausted; widen it or lower the number of trials"
        )
        return None

    def _job_of(self, trial: optuna.Trial, params: Mapping[str, Value]) -> TrialJob | None:
        try:
            config = self._spec.trial_config(params)
        except StudyFileError as error:
            self._failed(trial.number, "; ".join(error.problems), retry=False)
            return None
        return self._job(trial.number, params, config, trial.user_attrs.get("retry_of"))

    def _job(
        self, number: int, params: Mapping[str, Value], config: TrialConfig, retry_of: int | None
    ) -> TrialJob:
        self._ledger.note(number, config_digest=config.digest())
        checkpoint = None if retry_of is None else self._ledger.last_checkpoint(retry_of)
        while (
            checkpoint is None and retry_of is not None
        ):  # a retry that was interrupted before its first epoch
            retry_of = self._ledger.trial(retry_of).user_attrs.get("retry_of")
            checkpoint = None if retry_of is None else self._ledger.last_checkpoint(retry_of)
        if checkpoint is not None and not (self._storage_root / checkpoint.uri).is_file():
            self._listener.said(
                f"trial {number}: the checkpoint of trial {retry_of} is gone, training from the start"
            )
            checkpoint = None
        if checkpoint is not None and retry_of is not None:
            self._ledger.inherit(number, retry_of, up_to_epoch=checkpoint.epoch)
        first_epoch = 0 if checkpoint is None else checkpoint.epoch
        self._listener.trial_started(number, params, first_epoch=first_epoch, num_epochs=config.train.epochs)
        return TrialJob(
            number=number,
            config=config.to_dict(),
            objective=self._spec.objective.name,
            data=self._data,
            data_fingerprint=self._data_fingerprint,
            storage_root=str(self._storage_root),
            run_dir=f"{self._spec.name}/trial-{number:04d}",
            resume_from=None if checkpoint is None else checkpoint.uri,
            resume_sha256=None if checkpoint is None else checkpoint.sha256,
            past_values={} if checkpoint is None else self._ledger.trial(number).intermediate_values,
        )

    # ---- Ray tells -------------------------------------------------------------------------------------

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write down an epoch of a trial that goes on."""
        number = self._running[trial_id]
        self._record(number, result["message"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write down a trial's last epoch, then its state."""
        if error or result is None or "message" not in result:
            return  # ErrorCallback follows with the reason; a trial that never ran is left to reconciliation
        number = self._running[
            trial_id
        ]  # removed once the state is written: until then `errored` must find it
        message: TrialMessage = result["message"]
        self._record(number, message)
        digest = self._ledger.trial(number).user_attrs.get("config_digest")
        if message.failure is not None:
            self._failed(number, message.failure, retry=False)
        elif message.config_digest != digest:
            self._failed(
                number, "the trainer applied another configuration than the sampler chose", retry=False
            )
        elif message.outcome is not None:
            outcome = message.outcome
            self._ledger.complete(
                number, outcome.best_value, best_epoch=outcome.best_epoch, stop_reason=outcome.stop_reason
            )
            self._done(number, "COMPLETE", outcome.best_value, outcome.stop_reason)
        else:
            self._ledger.prune(number, message.epoch)
            self._done(
                number, "PRUNED", self._value(message), f"by the scheduler after epoch {message.epoch}"
            )
        del self._running[trial_id]

    def errored(self, trial_id: str, reason: str) -> None:
        """Write down a trial whose worker is gone; it is tried again."""
        number = self._running.pop(trial_id, None)
        if number is not None and not self._ledger.trial(number).state.is_finished():
            self._failed(number, reason, retry=True)

    def _record(self, number: int, message: TrialMessage) -> None:
        # The epoch before its checkpoint: a retry inherits the epochs up to a checkpoint, so they must be there.
        if message.metrics is not None:
            self._ledger.report(number, message.epoch, message.metrics)
            self._listener.epoch_done(number, message.epoch, self._value(message))
        for checkpoint in message.checkpoints:
            self._ledger.checkpoint(number, checkpoint)

    def _value(self, message: TrialMessage) -> float:
        assert message.metrics is not None
        return message.metrics[self._spec.objective.name]

    def _done(self, number: int, state: str, value: float, reason: str) -> None:
        self._num_done = self._ledger.num_done()
        self._failures.clear()
        self._listener.trial_ended(number, state, value=value, reason=reason)

    def _failed(self, number: int, reason: str, *, retry: bool) -> None:
        again = self._ledger.fail(number, reason, retry=retry)
        self._listener.trial_ended(
            number, "FAIL", value=None, reason=reason + ("; queued again" if again else "")
        )
        if again:  # a lost worker or node says nothing about the next trial
            return
        self._failures.append(reason)
        if len(self._failures) >= MAX_CONSECUTIVE_FAILURES:
            self.broken = True
            shared = sorted(set(self._failures))
            self.problem = f"{len(self._failures)} trials failed in a row: {' | '.join(shared)}"

    # ---- Ray saves nothing of us -----------------------------------------------------------------------

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the database is the one truth, and Ray would pickle our connection to it."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:  # noqa: ARG002
        """Refuse: a relaunch opens the study instead."""
        raise RuntimeError("a study is continued by launching it again, not by restoring Ray Tune's files")


class ErrorCallback(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Brings the search algorithm the reason of an errored trial, which Ray gives to callbacks only."""

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """Pass on why a trial's worker is gone."""
        self._search.errored(trial.trial_id, f"its worker was lost: {_last_error(trial)}")


def _last_error(trial: Trial) -> str:
    """Return the first line of the newest entry of the trial's error file that says something."""
    try:
        text = Path(trial.error_file).read_text()
    except (OSError, TypeError):
        return "no reason given"
    newest = text.rpartition("Failure # ")[2]
    lines = [line.strip() for line in newest.splitlines()[1:] if line.strip()]
    return lines[0][:300] if lines else "no reason given"
