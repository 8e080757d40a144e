"""The Ray actor that runs trials: one epoch a step, one actor for many trials.

The driver imports this module to give Ray the class. So torch and the trainer, which take seconds, are imported where a
worker first needs them. Holds no database connection and no credential. An error inside a trial is a message, not an
exception. Ray then keeps the actor, and the driver gets the reason instead of a pickled traceback.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from searcher.exceptions import CheckpointError
from searcher.ledger.records import CheckpointRecord
from searcher.orchestration.cluster.node_probe import check_code, check_storage, open_store
from searcher.orchestration.trials.heartbeat import Heartbeat
from searcher.orchestration.trials.messages import TrialJob, TrialMessage
from searcher.orchestration.trials.trial_workspace import AWAY_LIMIT_S, TrialWorkspace, trial_workspace
from searcher.storage.mirror import storage_at
from searcher.study.config import TrialConfig
from searcher.study.layout import TRIAL_LOG
from searcher.study.objectives import Objective
from searcher.times import UtcFormatter
from searcher.training.failures import diagnose
from searcher.training.reporter import Decision

if TYPE_CHECKING:
    from searcher.training.trainer import Trainer

__all__ = ["TrialTrainable"]

logger = logging.getLogger(__name__)

_LEFT_BEHIND_LIMIT_BYTES = 64 * 2**20
"""Device memory that may stay allocated between two trials of one actor."""


class _LastReport:
    """A reporter that keeps the newest report for the driver, whose scheduler decides between two steps.

    Args:
        objective: Name of the metric that the heartbeat carries at once, before a trial is tuned.
        heartbeat: The trial's.
    """

    def __init__(self, objective: str, heartbeat: Heartbeat) -> None:
        self._objective, self._heartbeat = objective, heartbeat
        self.epoch = 0
        self.metrics: Mapping[str, float] = {}

    def report(self, epoch: int, metrics: Mapping[str, float]) -> Decision:
        """Keep the epoch's metrics, and return `Decision.CONTINUE`."""
        self.epoch, self.metrics = epoch, dict(metrics)
        self._heartbeat.measured(epoch, metrics[self._objective])
        return Decision.CONTINUE


class TrialTrainable(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """The Ray Tune actor that trains trials, one after the other; `reset_config` gives it the next one."""

    def setup(self, config: dict[str, Any]) -> None:
        """Receive the first trial's job. Nothing is built yet, so that every failure of a trial occurs in `step`."""
        self._heartbeat = Heartbeat(config["job"].number, 0.0)
        self._beat_for(config["job"])  # before what takes seconds to import
        import torch

        torch.set_num_threads(max(1, int(config["num_threads"])))
        logging.basicConfig(level=logging.INFO)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Receive the next trial's job, and return True.

        Raises:
            RuntimeError: The last trial did not free its device memory. Returning False would not do: Ray 2.60 then
                fails a trial without calling the search algorithm or a callback.
        """
        import torch

        self._end()
        self._beat_for(new_config["job"])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            left = torch.cuda.memory_allocated()
            if left > _LEFT_BEHIND_LIMIT_BYTES:
                raise RuntimeError(f"the trial before left {left / 2**20:.0f} MiB of device memory behind")
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, and return its message in a dictionary for Ray Tune.

        The dictionary has `message` (a `TrialMessage`), `done`, and `epoch` and `objective` if the epoch has metrics.
        An error of the training is not raised: it is in the message.
        """
        self._heartbeat("epoch", "an epoch's beginning")
        try:
            message = self._train_epoch()
        except Exception as error:  # the boundary of the worker: it becomes the trial's fail_reason
            logger.exception("trial %d failed", self._job.number)
            message = TrialMessage(failure=diagnose(error))
            self._end()
        result: dict[str, Any] = {"message": message, "done": bool(message.failure or message.outcome)}
        if message.metrics is not None:
            result |= {"epoch": message.epoch, "objective": message.metrics[self._job.objective]}
        self._heartbeat.wait()
        return result

    def cleanup(self) -> None:
        """Free the stream, the model and the device memory."""
        self._end()

    def _beat_for(self, job: TrialJob) -> None:
        self._heartbeat.close()
        waits_s = AWAY_LIMIT_S if storage_at(job.storage_root).is_remote else 0.0
        self._heartbeat = Heartbeat(job.number, job.hang_timeout_s, extra_s=waits_s)
        self._heartbeat("beginning", "its worker's beginning")

    def _begin(self, config: dict[str, Any]) -> None:
        self._job: TrialJob = config["job"]
        self._trainer: Trainer | None = None
        self._reporter = _LastReport(self._job.objective, self._heartbeat)
        self._log: logging.Handler | None = None
        self._workspace: TrialWorkspace | None = None

    def _end(self) -> None:
        self._heartbeat.close()
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = None
        if self._log is not None:
            logging.getLogger().removeHandler(self._log)
            self._log.close()
            self._log = None
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    def _train_epoch(self) -> TrialMessage:
        if self._trainer is None:
            self._trainer = self._build_trainer()
        outcome = self._trainer.step(self._reporter)
        self._heartbeat("files", "bringing its files to where they are kept")
        return TrialMessage(
            epoch=self._reporter.epoch,
            metrics=self._reporter.metrics or None,  # None: it resumed from its last epoch
            checkpoints=self._checkpoints(self._trainer),
            config_digest=self._trainer.config.digest(),
            node=_node(),
            transfer=self._transfer(self._trainer),
            sizes=(self._trainer.sizes or None) if self._reporter.epoch == 1 else None,
            outcome=outcome,
        )

    def _transfer(self, trainer: "Trainer") -> dict[str, Any] | None:
        is_first = self._reporter.epoch == 1
        return trainer.transfer.to_dict() if is_first and trainer.transfer is not None else None

    def _build_trainer(self) -> "Trainer":
        from searcher.training.trainer import Trainer

        job = self._job
        self._heartbeat("data", "opening storage folder and data")
        check_code(job)
        check_storage(job)
        self._workspace = workspace = trial_workspace(job)
        run_dir = workspace.run_dir
        _claim(run_dir)
        self._log = logging.FileHandler(run_dir / TRIAL_LOG)
        self._log.setFormatter(UtcFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._log)
        config = TrialConfig.model_validate(dict(job.config))
        resume_from, warm_start = _begins_from(workspace)
        return Trainer(
            config,
            Objective(job.objective),
            store=open_store(job),
            run_dir=run_dir,
            resume_from=resume_from,
            resume_sha256=None if job.resume_from is None else job.resume_from.sha256,
            warm_start=warm_start,
            micro_batches=job.micro_batches,
            device_share=job.device_share,
            num_pictures=job.num_pictures,
            alive=self._heartbeat,
        )

    def _checkpoints(self, trainer: "Trainer") -> tuple[CheckpointRecord, ...]:
        assert self._workspace is not None
        written = {"last": trainer.last_checkpoint, "best": trainer.best_checkpoint}
        return self._workspace.kept({kind: file for kind, file in written.items() if file is not None})


def _claim(run_dir: Path) -> None:
    """Make the trial's folder, which no other trial may have: a number is handed out once in a study.

    Raises:
        CheckpointError: It is there: a study of that name of another database is being launched into the same storage.
    """
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        raise CheckpointError(
            f"{run_dir}: must be a new folder for this trial alone, got one that is there; a study of that name of "
            "another database uses the same --storage: choose another"
        ) from None


def _node() -> str:
    identifier = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    return f"{os.uname().nodename} {identifier[:8]}".strip()


def _begins_from(workspace: TrialWorkspace) -> tuple[Path | None, Path | None]:
    """Return the checkpoint to go on from, and that of another trial to begin from: one of them, or none.

    Byte for byte, they are what the database knows. The driver has verified it; but the worker of a driver that was
    killed may have moved it since.

    Raises:
        CheckpointError: It is not there any more.
    """
    job = workspace.job
    if job.resume_from is not None:
        return workspace.find_to_go_on(job.resume_from), None
    return None, None if job.warm_start is None else workspace.find(job.warm_start)
