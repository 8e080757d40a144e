"""One launch from the moment that it holds the lease: repair, search, record how it ended."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from optuna.trial import TrialState
from ray.exceptions import RayError
from ray.tune.error import TuneError

from searcher.exceptions import (
    DatabaseAwayError,
    DatabaseReplacedError,
    SearchBrokeOffError,
    SearcherError,
    StudyConflictError,
)
from searcher.ledger.forecast import Forecast
from searcher.ledger.lease import Lease
from searcher.ledger.study_ledger import StudyLedger
from searcher.ledger.study_progress import earlier_trials
from searcher.ledger.this_launch import changed_plugins
from searcher.lineage.imports import parents_trials
from searcher.orchestration.cluster.code_digest import code_digest
from searcher.orchestration.cluster.node_probe import mark_storage
from searcher.orchestration.cluster.node_watch import NodeWatch
from searcher.orchestration.cluster.resources import TrialResources
from searcher.orchestration.launch_log import LaunchLog
from searcher.orchestration.mlflow_mirror import MlflowMirror
from searcher.orchestration.run_context import RunContext
from searcher.orchestration.signals import Stop
from searcher.orchestration.trials.hang_watch import HangWatch
from searcher.orchestration.trials.lost_workers import cause_of
from searcher.orchestration.trials.proposer import Proposer, is_needed
from searcher.orchestration.trials.samplers import build_sampler
from searcher.orchestration.trials.scheduler import build_scheduler
from searcher.orchestration.trials.search import StudySearch
from searcher.orchestration.tune_run import run_tune
from searcher.plugins import plugin_sources

__all__ = ["LaunchResult", "LaunchRun"]


@dataclass(frozen=True)
class LaunchResult:
    """The result of a launch: its outcome, and how many trials are done."""

    outcome: str
    """`finished`, `interrupted` or `failed`."""
    num_done: int
    """Trials of the budget that are done, over all launches."""
    budget: int
    problem: str | None = None
    """Why it failed."""
    was_signalled: bool = False
    """Whether Ctrl-C or another signal ended it."""
    reason: str | None = None
    """Why it finished before the budget was used: its hours, or a small expected gain."""


class LaunchRun:
    """A launch that holds the lease: it repairs the study's state, searches, and records its outcome."""

    def __init__(
        self,
        run: RunContext,
        ledger: StudyLedger,
        lease: Lease,
        cluster: ExitStack,
        log: LaunchLog,
        stop: Stop,
    ) -> None:
        self._run = run
        self._spec = run.spec
        self._ledger = ledger
        self._lease = lease
        self._cluster = cluster
        self._log = log
        self._stop = stop
        self._mirror: MlflowMirror | None = None
        self._began = time.monotonic()
        self._forecast = Forecast()
        self._reason: str | None = None

    def run(self) -> LaunchResult:
        """Repair the state that the last driver left, search, record the outcome, and return the result."""
        budget = self._spec.study.trials
        try:
            self._open()
            self._note()
            problem = None
            if self._run.resources is not None and self._ledger.num_to_do():
                problem = self._search(self._run.resources)
        except BaseException as error:
            self._conclude(None if isinstance(error, KeyboardInterrupt) else type(error).__name__, error)
            if isinstance(error, DatabaseAwayError) and self._stop.is_set():
                # Told to end while the database was away: the next launch fixes what could not be written.
                return LaunchResult(
                    "interrupted",
                    0,
                    budget,
                    f"{error}; not waited for any longer",
                    was_signalled=self._stop.was_signalled,
                )
            raise
        outcome, num_done = self._conclude(problem)
        return LaunchResult(outcome, num_done, budget, problem, self._stop.was_signalled, self._reason)

    def _open(self) -> None:
        """Leave nothing RUNNING and queue the known-good points."""
        ledger = self._ledger
        ledger.optuna_study.sampler = build_sampler(self._spec, num_trials=len(ledger.trials()))
        left = ledger.reconcile("its driver ended without a word")
        if left:
            numbers = ", ".join(map(str, left))
            self._log.info(
                f"a former launch left trial {numbers} running; now FAIL, and queued again where sensible"
            )
        going_on = ledger.continue_best()
        if going_on:
            self._log.info(
                f"trial {', '.join(map(str, going_on))}: the best of those with fewer epochs; each goes on from its "
                f"best checkpoint to epoch {self._spec.max_epochs}, with the learning rates of as many"
            )
        ledger.enqueue(self._spec.enqueue)
        complete = [trial.values[0] for trial in ledger.trials(TrialState.COMPLETE)]
        best = min(complete, key=self._spec.objective.cost, default=None)
        assert ledger.retry_policy is not None
        spent_s = ledger.retry_policy(lambda: ledger.database.launched_before_s(self._spec.name))
        earlier = ledger.retry_policy(lambda: earlier_trials(ledger.database, self._spec.name))
        for num_epochs, took_s in earlier:
            self._forecast.earlier(num_epochs, took_s)
        self._log.study_opened(
            budget=self._spec.study.trials,
            num_done=ledger.num_done(),
            best=best,
            spent_s=spent_s,
            earlier=earlier,
        )

    def _note(self) -> None:
        """Write down what was launched, and on what data."""
        run, store = self._run, self._run.store
        for line in run.remarks:
            self._log.note(line)
        for line in changed_plugins(self._ledger.database.versions(self._ledger.spec.name)):
            self._log.info(line)
        self._ledger.note_launch(
            run.command, num_images=len(store.samples), num_training_images=len(store.indices("train"))
        )
        self._mirror = MlflowMirror.start(
            self._ledger.database, self._spec.name, run.storage_root, self._log.info
        )

    def _proposer(self) -> Proposer | None:
        """Return who proposes the study's trials; None if its sampler does, on the study's own tables."""
        spec, ledger = self._spec, self._ledger
        imports = parents_trials(spec, ledger.database, data_fingerprint=self._run.data_fingerprint)
        if imports.message is not None:
            self._log.info(imports.message)
        return Proposer(ledger, imports.trials) if is_needed(spec, imports.trials) else None

    def _settled(self) -> RunContext:
        """Return the launch with the checks and the first checkpoint of its workers."""
        run, fixed = self._run, self._spec.fixed
        sha256 = "" if fixed.get("warm_start.bundle") else str(fixed.get("warm_start.sha256", ""))
        return replace(
            run,
            storage_mark=mark_storage(run.storage_root, self._spec.name) if run.is_joined else None,
            code_digest=code_digest(plugin_sources()) if run.is_joined else None,
            plugins=plugin_sources(),
            warm_start=self._ledger.checkpoint_with(sha256) if sha256 else None,
        )

    def _search(self, resources: TrialResources) -> str | None:
        """Run trials until the budget is used; return why it ended before, None if it did not."""
        search = StudySearch(
            self._ledger,
            self._settled(),
            listener=self._log,
            stop=self._stop,
            proposer=self._proposer(),
            on_trial_ended=None if self._mirror is None else self._mirror.wake,
            forecast=self._forecast,
            began=self._began,
        )
        assert self._ledger.retry_policy is not None
        self._ledger.retry_policy(lambda: self._lease.uses(resources.gpus))
        scheduler = build_scheduler(self._spec, self._ledger.trials(TrialState.COMPLETE, TrialState.PRUNED))
        try:
            watch = NodeWatch(resources, search.end, self._log.info)
            run_tune(
                search,
                scheduler,
                watch,
                HangWatch(search, self._log.info, seen=search.seen),
                self._stop,
            )
        except TuneError as error:  # its text is a whole traceback, whose last line says what it was
            raise self._broke_off(str(error).strip().rpartition("\n")[2]) from error
        except (RayError, RuntimeError, AssertionError, OSError) as error:
            # From Ray's own depths, where a traceback would say no more; but for an assertion, which may be ours.
            ours = error if isinstance(error, AssertionError) else None
            raise self._broke_off(f"{type(error).__name__}: {cause_of(str(error))}", ours) from error
        self._raise_fatal(search)
        self._reason = search.ended_because
        return search.problem

    def _raise_fatal(self, search: StudySearch) -> None:
        """Raise the error that ended the search itself, or that took the study away from this launch."""
        fatal = self._lease.problem or search.fatal
        if isinstance(fatal, StudyConflictError | DatabaseReplacedError) or (
            isinstance(fatal, DatabaseAwayError) and self._stop.is_set()
        ):
            raise fatal
        if fatal is not None:
            if isinstance(fatal, SearcherError):
                raise self._broke_off(str(fatal)) from fatal
            raise self._broke_off(f"{type(fatal).__name__}: {fatal}", fatal) from fatal

    def _broke_off(self, why: str, unforeseen: Exception | None = None) -> SearchBrokeOffError:
        return SearchBrokeOffError(
            f"--study {self._spec.name}: the search broke off: {why}; launch again to go on", unforeseen
        )

    def _conclude(self, problem: str | None, raised: BaseException | None = None) -> tuple[str, int]:
        """Stop the workers, then leave no trial RUNNING; also when a second Ctrl-C breaks off.

        Args:
            problem: Why the launch failed.
            raised: What the caller raises next, so that its line is not said here too.
        """
        self._stop.is_concluding = True
        self._cluster.close()  # from here on nobody writes into a trial's folder
        ledger = self._ledger
        try:
            if self._lease.problem is not None:  # nothing can be written any more
                return "failed", 0
            ledger.reconcile("interrupted: the launch ended before the trial did", counts=False)
            ledger.check_whole()
            num_done, num_to_do = ledger.num_done(), ledger.num_to_do()
        except SearcherError as error:  # away, or the study was deleted: the next launch fixes it
            if raised is None or str(error) != str(raised):
                self._log.info(f"could not write down the end of the launch: {error}")
            return "failed", 0
        if self._mirror is not None:
            self._mirror.close()
        is_done = num_to_do == 0 or self._reason is not None
        outcome = "finished" if is_done else "failed" if problem else "interrupted"
        self._lease.ends_as(outcome, problem or self._reason)
        self._log.ended(outcome, problem or self._reason)
        return outcome, num_done
