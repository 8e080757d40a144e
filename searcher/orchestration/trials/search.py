"""Our Ray Tune search algorithm: Optuna's ask and tell, written down exactly.

Ray 2.60's own `OptunaSearch` records trials that the scheduler stopped as COMPLETE, drops every trial's last
report, and leaves failed ones RUNNING. Here each trial gets the state that it earned:

    the trainer finished                COMPLETE, with stop_reason
    the scheduler stopped it            PRUNED, with its epoch
    the trainer failed                  FAIL, with fail_reason
    it ran out of memory                FAIL, and once more in two halves of a batch
    the disk is full                    FAIL, queued again, and the study stops
    its worker or node is gone, or
    the node lacks the study's storage  FAIL, and its parameters are queued again from the last checkpoint

The calls come from one thread, that of `tune.run`. For a result Ray 2.60 calls `on_trial_result`, or
`on_trial_complete` if the trial ends with it. For an errored trial it calls `on_trial_complete` without a reason, then
the callback's `on_trial_error` with one. Ray swallows or prints an exception that leaves one of these calls. So none
does: it is kept in `fatal`, and the run ends.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from searcher.exceptions import StorageError, StudyFileError
from searcher.ledger.forecast import Forecast
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.cluster.resources import num_places
from searcher.orchestration.listener import StudyListener
from searcher.orchestration.run_context import RunContext
from searcher.orchestration.trials.lost_workers import OUT_OF_MEMORY, cause_of, last_error
from searcher.orchestration.trials.messages import TrialJob, TrialMessage
from searcher.orchestration.trials.proposer import Proposer
from searcher.orchestration.trials.summary_of_failures import summary_of_failures
from searcher.orchestration.trials.time_budget import TimeBudget
from searcher.storage.mirror import root_text
from searcher.study.config import TrialConfig
from searcher.study.layout import trial_folder
from searcher.study.space import Value
from searcher.study.spec import StudySpec
from searcher.training.alive import Doing
from searcher.training.failures import TrialFailure
from searcher.training.outcome import Outcome

__all__ = ["ErrorCallback", "StudySearch"]

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 5
"""After as many failed trials in a row the study stops: the next would fail too."""
MAX_REPEATED_PROPOSALS = 20
"""After as many proposals in a row that were trained before, the space counts as exhausted."""


_Call = TypeVar("_Call", bound=Callable[..., Any])


def _contained(call: _Call) -> _Call:
    """Keep an exception for the driver instead of letting Ray have it; after one, the search does nothing more."""

    @functools.wraps(call)
    def guarded(self: "StudySearch", *args: Any, **kwargs: Any) -> Any:
        if self.fatal is not None:
            return None
        try:
            return call(self, *args, **kwargs)
        except Exception as error:  # the boundary to Ray: `launch` raises it again
            self.fatal = error
            self.broken = True
            return None

    return cast("_Call", guarded)


class StudySearch(Searcher):  # type: ignore[misc]  # ray ships no types
    """Ray Tune search algorithm: requests trials from Optuna up to the study's budget, and records their results.

    Args:
        ledger: The study in the database.
        run: The settings of the launch; its resources are decided.
        listener: Receives the progress.
        stop: Event that is set when the launch is to end.
        proposer: Proposes the trials; None to use the study's sampler directly.
        on_trial_ended: Called after a trial's final state is in the database.
        forecast: Knows the epochs of earlier launches; None begins one.
        began: When the launch began, in seconds of `time.monotonic`; None for now.
    """

    def __init__(
        self,
        ledger: StudyLedger,
        run: RunContext,
        *,
        listener: StudyListener,
        stop: threading.Event,
        proposer: Proposer | None = None,
        on_trial_ended: Callable[[], None] | None = None,
        forecast: Forecast | None = None,
        began: float | None = None,
    ) -> None:
        super().__init__()
        self.ended_because: str | None = None
        """Why the study ended before its budget was used, hours or a small gain; None if it did not."""
        self.problem: str | None = None
        """Why the search ended before its budget, None if it did not."""
        self.broken = False
        """Whether running trials should stop too."""
        self.fatal: Exception | None = None
        """What broke the search itself, a study deleted under it say."""
        self._ledger = ledger
        self._run = run
        self._listener = listener
        self._stop = stop
        self._proposer = proposer
        self._on_trial_ended = on_trial_ended
        self._running: dict[str, int] = {}  # Ray's trial id -> Optuna's trial number
        self._expected_losses: dict[int, str] = {}
        self._num_done, self._num_to_do = ledger.num_done(), ledger.num_to_do()
        self._forecast = forecast or Forecast()
        self._time = TimeBudget(
            ledger.spec,
            gpus=run.trial_resources.gpus,
            forecast=self._forecast,
            began=time.monotonic() if began is None else began,
        )
        self._has_outlook = False
        self._gain_after: tuple[int, float | None] = (
            -1,
            None,
        )  # trials that were done, and what was expected
        self._failures: list[tuple[Mapping[str, Value], str]] = []  # in a row: parameters and reason

    @property
    def _spec(self) -> StudySpec:
        return self._ledger.spec

    # ---- Ray asks --------------------------------------------------------------------------------------

    @_contained
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial for Ray Tune; None to wait; `FINISHED` at the end."""
        remaining = self._num_to_do
        if remaining <= 0 or self._stop.is_set() or self.problem is not None:
            return str(Searcher.FINISHED)
        places = self._num_places()
        # One more than there is room for: it waits, and an autoscaler sees that there is need of a node.
        at_most = self._spec.resources.max_concurrent or places + 1
        if len(self._running) >= min(remaining, at_most):
            return None
        self._say_outlook()
        why = self._time.refusal(max(1, places)) or self._small_gain()
        if why is not None:
            if self._running:  # one that fails is tried again, and one that is stopped early leaves time
                return None
            self.ended_because = why
            return str(Searcher.FINISHED)
        job = self._next_job()
        if job is None:
            return None
        self._running[trial_id] = job.number
        return {"job": job, "num_threads": max(1, int(self._spec.resources.cpus))}

    def _num_places(self) -> int:
        return self._spec.resources.max_concurrent or num_places(self._run.trial_resources)

    def _say_outlook(self) -> None:
        """Say once how long the study takes: before the first trial if earlier launches tell, else once epochs do."""
        if self._has_outlook:
            return
        outlook = self._time.outlook(self._num_to_do, self._num_places())
        if outlook is not None:
            self._has_outlook = True
            self._listener.info(outlook)

    def _small_gain(self) -> str | None:
        """Return that another trial is not worth it, None if it is, or if one is queued."""
        least = self._spec.search.stop_if_gain_below
        if not least or self._ledger.trials(TrialState.WAITING):
            return None
        if self._gain_after[0] != self._num_done:
            from searcher.orchestration.trials.gain import expected_gain  # scipy.stats takes a second

            self._gain_after = self._num_done, expected_gain(self._spec, self._ledger.trials())
        gain = self._gain_after[1]
        if gain is None or gain >= least:
            return None
        name = self._spec.objective.name
        return f"search.stop_if_gain_below={least:g}: another trial is expected to gain {gain:.2g} of {name}"

    def _next_job(self) -> TrialJob | None:
        study = self._ledger.optuna_study
        sampler = study.sampler
        try:
            for repeats in range(MAX_REPEATED_PROPOSALS):
                at_random = repeats >= MAX_REPEATED_PROPOSALS // 2  # one that learns may insist on a point
                if at_random:
                    study.sampler = optuna.samplers.RandomSampler()
                propose = functools.partial(self._proposer, at_random=at_random) if self._proposer else None
                number, params = self._ledger.begin_trial(self._running.values(), propose)
                earlier = self._ledger.trained_before(number)
                if earlier is not None:
                    reason = f"equal parameters to trial {earlier}, not trained twice"
                elif self._ledger.queued_twice(number):
                    reason = "queued twice"
                else:
                    return self._job_of(number, params)
                self._ledger.fail(number, reason, retry=False)
        finally:
            study.sampler = sampler
        self.problem = (
            f"{MAX_REPEATED_PROPOSALS} proposals in a row, half of them at random, were trained before: "
            "the space is exhausted; widen it or lower the number of trials"
        )
        return None

    def _job_of(self, number: int, params: Mapping[str, Value]) -> TrialJob | None:
        try:
            config = self._spec.trial_config(params)
        except StudyFileError as error:
            self._failed(number, "; ".join(error.problems))
            return None
        return self._job(number, params, config)

    def _job(self, number: int, params: Mapping[str, Value], config: TrialConfig) -> TrialJob:
        ledger, run = self._ledger, self._run
        ledger.note(number, config_digest=config.digest())
        resume = ledger.resume_point(number, run.storage_root)
        for damage in resume.damages:
            self._listener.info(f"trial {number}: cannot go on from {damage}; taking the one before")
        if resume.lost_best is not None:
            self._listener.info(
                f"trial {number}: its best checkpoint is lost, {resume.lost_best}; a later epoch must beat its value"
            )
        checkpoint = resume.checkpoint
        if checkpoint is not None and resume.trial is not None:
            ledger.inherit(number, resume.trial, up_to_epoch=checkpoint.epoch)
            ledger.note(number, warm_start=ledger.trial(resume.trial).user_attrs.get("warm_start"))
        elif resume.damages:
            self._listener.info(f"trial {number}: no checkpoint is whole, training from the start")
        trial = ledger.trial(number)
        self._forecast.started(
            number,
            first_epoch=0 if checkpoint is None else checkpoint.epoch,
            num_epochs=config.train.epochs,
            now=time.monotonic(),
        )
        self._listener.trial_started(
            number,
            params,
            first_epoch=0 if checkpoint is None else checkpoint.epoch,
            num_epochs=config.train.epochs,
        )
        return TrialJob(
            number=number,
            config=config.to_dict(),
            objective=self._spec.objective.name,
            data=run.data,
            data_fingerprint=run.data_fingerprint,
            storage_root=root_text(run.storage_root),
            run_dir=trial_folder(self._spec.name, number),
            storage_mark=run.storage_mark,
            code_digest=run.code_digest,
            plugins=run.plugins,
            resume_from=checkpoint,
            warm_start=run.warm_start,
            past_values={} if checkpoint is None else trial.intermediate_values,
            micro_batches=int(trial.user_attrs.get("micro_batches", 1)),
            device_share=run.trial_resources.device_share,
            num_pictures=self._spec.resources.pictures,
            hang_timeout_s=self._spec.resources.hang_timeout_s,
        )

    # ---- Ray tells -------------------------------------------------------------------------------------

    @_contained
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch of a trial that continues."""
        number = self._running[trial_id]
        self._record(number, result["message"])

    @_contained
    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record a trial's last epoch, then its state; see `ray.tune.search.Searcher.on_trial_complete`."""
        if error or result is None or "message" not in result:
            return  # ErrorCallback follows with the reason; a trial that never ran is left to reconciliation
        number = self._running[trial_id]
        message: TrialMessage = result["message"]
        self._record(number, message)
        digest = self._ledger.trial(number).user_attrs.get("config_digest")
        if message.failure is not None:
            self._fail_for(number, message.failure)
        elif message.config_digest != digest:
            self._failed(number, "the trainer applied another configuration than the sampler chose")
        elif message.outcome is not None:
            outcome = message.outcome
            if outcome.tuning_problem is not None:
                self._ledger.note(number, tuning_problem=outcome.tuning_problem)
                self._listener.info(f"trial {number}: could not be tuned: {outcome.tuning_problem}")
            self._attach_pictures(number, outcome)  # while it may still be written to
            self._ledger.complete(
                number,
                outcome.best_value,
                best_epoch=outcome.best_epoch,
                stop_reason=outcome.stop_reason,
                tuned=outcome.tuned,
            )
            self._done(number, "COMPLETE", outcome.best_value, outcome.stop_reason)
        else:
            self._ledger.prune(number, message.epoch)
            self._done(
                number, "PRUNED", self._value(message), f"by the scheduler after epoch {message.epoch}"
            )
        del self._running[trial_id]

    @_contained
    def errored(self, trial_id: str, reason: str) -> None:
        """Record that a trial's worker was lost; the trial's parameters are queued again."""
        number = self._running.pop(trial_id, None)
        if number is None or self._ledger.trial(number).state.is_finished():
            return
        reason = self._expected_losses.pop(number, reason)
        parts = None
        if reason.startswith(OUT_OF_MEMORY):
            parts = 2 * int(self._ledger.trial(number).user_attrs.get("micro_batches", 1))
        self._failed(number, f"its worker was lost: {reason}", retry=True, micro_batches=parts)

    @property
    def running(self) -> Mapping[str, int]:
        """The numbers of the trials that were started and have not ended, by Ray's ids."""
        return self._running

    def seen(self, number: int, doing: Doing, epoch: int, value: float | None) -> None:
        """Record what a trial's worker is doing; see `StudyListener.trial_does`."""
        self._forecast.begun(number, time.monotonic())
        self._listener.trial_does(number, doing, epoch, value)

    def expect_loss(self, number: int, why: str) -> None:
        """Record why a trial's worker is about to be killed; Ray will only report that it was."""
        self._expected_losses[number] = why

    def end(self, problem: str) -> None:
        """End the launch, because of a problem that makes further trials pointless."""
        self.problem, self.broken = problem, True

    def _record(self, number: int, message: TrialMessage) -> None:
        # The epoch before its checkpoint: a retry inherits the epochs up to a checkpoint, so they must be there.
        if message.metrics is not None:
            self._ledger.report(number, message.epoch, message.metrics)
            self._forecast.epoch_done(number, message.epoch, time.monotonic())
            self._listener.epoch_done(number, message.epoch, self._value(message))
            self._say_outlook()
        self._ledger.note(
            number,
            node=message.node or None,
            warm_start=None if message.transfer is None else dict(message.transfer),
            sizes=None if message.sizes is None else dict(message.sizes),
        )
        for checkpoint in message.checkpoints:
            self._ledger.checkpoint(number, checkpoint)

    def _attach_pictures(self, number: int, outcome: Outcome) -> None:
        """Let the trial carry its pictures. Without them it is as good as with them."""
        problem = outcome.pictures_problem
        try:
            self._ledger.attach(number, outcome.pictures, self._run.storage_root)
        except StorageError as error:
            problem = f"they could not be kept: {error}"
        except OSError as error:
            problem = f"they could not be kept: {error.strerror or error}"
        if problem is not None:
            self._listener.info(f"trial {number}: has no pictures: {problem}")

    def _value(self, message: TrialMessage) -> float:
        assert message.metrics is not None
        return message.metrics[self._spec.objective.name]

    def _ended(self, number: int, state: str, *, value: float | None, reason: str) -> None:
        """Notify the listeners."""
        self._forecast.ended(number, time.monotonic(), is_done=state != "FAIL")
        self._num_to_do = self._ledger.num_to_do()
        self._listener.trial_ended(number, state, value=value, reason=reason)
        if self._on_trial_ended is not None:
            self._on_trial_ended()

    def _done(self, number: int, state: str, value: float, reason: str) -> None:
        self._num_done = self._ledger.num_done()
        self._failures.clear()
        self._ended(number, state, value=value, reason=reason)
        freed = self._ledger.collect(number, keep_best=self._spec.resources.keep_best or None)
        for problem in freed.problems:
            self._listener.info(problem)

    def _fail_for(self, number: int, failure: TrialFailure) -> None:
        """Write down a failure that the trainer has met, and do about it what its cause asks for."""
        if failure.cause == "memory":
            whole = "micro_batches" not in self._ledger.trial(number).user_attrs
            self._failed(number, failure.reason, retry=whole, counts=False, micro_batches=2)
        elif failure.cause == "disk":
            self._failed(number, failure.reason, retry=True, counts=False)
            self.end(
                f"trial {number}: {failure.reason}; make room, by `searcher gc --study {self._spec.name}` perhaps"
            )
        elif failure.cause == "store":  # no trial can be trained on it, whatever its parameters
            self._failed(number, failure.reason, retry=True, counts=False)
            self.end(f"trial {number}: {failure.reason}; then launch again to go on")
        else:
            self._failed(number, failure.reason, retry=failure.cause == "node")

    def _failed(
        self,
        number: int,
        reason: str,
        *,
        retry: bool = False,
        counts: bool = True,
        micro_batches: int | None = None,
    ) -> None:
        again = self._ledger.fail(number, reason, retry=retry, counts=counts, micro_batches=micro_batches)
        halved = " with its batch in parts" if again and micro_batches else ""
        self._ended(number, "FAIL", value=None, reason=f"{reason}; queued again{halved}" if again else reason)
        if again:  # a lost worker or node says nothing about the next trial
            return
        self._failures.append((self._ledger.trial(number).params, reason))
        if len(self._failures) >= MAX_CONSECUTIVE_FAILURES:
            self.end(f"{len(self._failures)} trials failed in a row; {summary_of_failures(self._failures)}")

    # ---- Ray saves nothing of us -----------------------------------------------------------------------

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the database has everything, and Ray would pickle our connection to it."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:  # noqa: ARG002
        """Raise an error: a study is resumed by launching it again."""
        raise RuntimeError("a study is continued by launching it again, not by restoring Ray Tune's files")


class ErrorCallback(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Ray Tune callback that passes the reason of a trial's error to the search algorithm, which Ray does not do."""

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """Pass the reason why a trial's worker was lost to the search algorithm."""
        self._search.errored(trial.trial_id, cause_of(last_error(trial)))
