"""Training one trial, epoch by epoch."""

import contextlib
import gc
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from searcher.data_pipeline.augment import build_augmentation
from searcher.data_pipeline.store import Store, normalised
from searcher.data_pipeline.stream import BatchStream
from searcher.exceptions import CheckpointError, UserError
from searcher.inference.precision import default_device, resolve_precision
from searcher.study.config import DataConfig, TrialConfig
from searcher.study.objectives import CLASS_METRICS, Objective
from searcher.training.alive import Alive, silent
from searcher.training.checkpoints import Checkpoint, CheckpointFile, load_checkpoint
from searcher.training.class_data import classed, with_class_digest, with_classes
from searcher.training.data_defaults import fitted_to_data, left_to_objects, sizes_of, with_sizes_of
from searcher.training.dataset import common_pixel_size, split_store
from searcher.training.device import keep_freed_memory, keep_to_share, to_device
from searcher.training.event_file import EventFile
from searcher.training.finishing import Finishing
from searcher.training.learner import Learner
from searcher.training.outcome import Outcome, StopReason
from searcher.training.pixels import pixels_of
from searcher.training.plateau import PlateauCounter
from searcher.training.randomness import RandomState
from searcher.training.reporter import Decision, Reporter
from searcher.training.run_folder import RunFolder
from searcher.training.validation import Validator, loss_metrics
from searcher.training.warm_start import (
    ParentCheckpoint,
    Transfer,
    read_parent_bundle,
    read_parent_checkpoint,
)

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)


class Trainer:
    """Trains the network of one trial, and writes its checkpoints.

    Everything random follows from `config.train.seed` (the split: `config.data.split_seed`). Two trainers with the same
    configuration, data and device compute the same losses, also if one of them resumes. On the CPU the losses are equal
    bit by bit for the same number of torch threads. The process's random generators are restored.

    The trainer is closed when the trial fails. Do not use it from several threads at once.

    Args:
        config: Configuration from the sampler.
        objective: Metric by which the best checkpoint is chosen, and which plateaus are about.
        store: The store of the data set.
        run_dir: Folder for `last.pt`, `best.pt`, `config.json`, `metrics.jsonl`; see `RunFolder`. A new run
            refuses a folder that holds an earlier one's checkpoint.
        device: Device to train on; None for CUDA if there is a GPU, otherwise the CPU.
        resume_from: Checkpoint to resume from, in this folder or another, with the same configuration, or one of fewer
            epochs, the same data and objective; None starts a new training.
        resume_sha256: Digest that the checkpoint must have; None for any.
        warm_start: Checkpoint of another trial to start from, with the digest `config.warm_start.sha256`. Required if
            that is set and the trial does not resume; otherwise None.
        micro_batches: Number of parts of a batch that go through the network one after the other, to save memory; see
            `Learner`. 1 for whole batches. Not part of the configuration: a checkpoint may be resumed with another
            number. Validation is not affected.
        device_share: Share of a GPU's memory that the process may use, 1 for all; see `keep_to_share`. Not part of the
            configuration.
        num_pictures: Number of worst validation images that are drawn after training, with the learning curve; 0 for
            none. Not part of the configuration.
        alive: Called before every step, image and file with the next action, so that a hanging trial can be noticed.

    Raises:
        CheckpointError: The checkpoint cannot be continued, or the folder holds another run.
        DataError: The images cannot be split.
        UserError: The device lacks the configured precision, pretrained weights are missing, or the warm start does not
            fit its checkpoint or the split.
    """

    def __init__(
        self,
        config: TrialConfig,
        objective: Objective,
        *,
        store: Store,
        run_dir: Path,
        device: torch.device | str | None = None,
        resume_from: Path | None = None,
        resume_sha256: str | None = None,
        warm_start: Path | None = None,
        micro_batches: int = 1,
        device_share: float = 1.0,
        num_pictures: int = 0,
        alive: Alive = silent,
    ) -> None:
        assert resume_sha256 is None or resume_from is not None, resume_sha256
        assert warm_start is None or (config.warm_start.sha256 and resume_from is None), warm_start
        if objective.name in CLASS_METRICS and not config.data.learn_classes:
            raise UserError(
                f"study.objective: must be a metric that is measured, got {objective.name}; set data.learn_classes=true"
            )
        store = classed(store, config.data)
        self.config = config = with_class_digest(config, store)
        self.objective = objective
        self.epoch = 0
        """Epochs trained."""
        self._alive = alive
        self._device = default_device() if device is None else torch.device(device)
        keep_to_share(self._device, device_share)
        keep_freed_memory(self._device)
        self._progress = PlateauCounter(objective)
        self._metrics: dict[str, float] = {}
        self._stop_reason: StopReason | None = None
        self._lineage: tuple[dict[str, Any], ...] = ()
        self._micro_batches = micro_batches
        self._num_pictures = num_pictures
        self._folder = RunFolder(run_dir)
        self._resources = contextlib.ExitStack()
        self._learner: Learner | None = None
        try:
            former = None
            if resume_from is not None:
                former = load_checkpoint(
                    resume_from,
                    config_digest=config.digest(),
                    sha256=resume_sha256,
                    num_epochs=config.train.epochs,
                )
            self._pixels = pixels_of(config, store, None if former is None else former[0].config)
            self._store = normalised(store, self._pixels.normalisation)
            self._set_up(
                resumed=None if former is None else former[0].config,
                parent=self._parent(warm_start, resume_from),
            )
            if former is None:
                self._folder.begin(config)
            else:
                self._resume(*former)
            self._events = EventFile(run_dir, self._folder.history())
            self._resources.callback(self._events.close)
        except BaseException:
            self.close()
            raise

    def _parent(self, path: Path | None, resume_from: Path | None) -> ParentCheckpoint | None:
        """Return what a new trial begins from, None for a trial that resumes or has no warm start."""
        wanted = self.config.warm_start
        if wanted.freeze != "none" and not wanted.sha256:
            raise UserError(
                f"warm_start.freeze={wanted.freeze}: needs warm_start.sha256, else random weights would be kept, got "
                "none; set it, or warm_start.freeze=none"
            )
        if not wanted.sha256 or resume_from is not None:
            return None
        if wanted.bundle:
            return read_parent_bundle(
                Path(wanted.bundle), self.config, data_fingerprint=self._store.fingerprint
            )
        if path is None:
            raise UserError(
                f"warm_start.sha256: needs the checkpoint with the digest {wanted.sha256[:12]}, got no file; launch "
                "the trial from where checkpoints are looked up"
            )
        return read_parent_checkpoint(path, self.config, data_fingerprint=self._store.fingerprint)

    def _set_up(self, *, resumed: Mapping[str, Any] | None, parent: ParentCheckpoint | None) -> None:
        config, train = self.config, self.config.train
        self._alive("building", "building the network")
        dtype = resolve_precision(train.precision, self._device)
        split = split_store(self._store, config.data)
        self._val_indices = split.val
        fitted = fitted_to_data(config, self._store, split.train, resumed)
        self._fitted = with_classes(with_sizes_of(config, fitted), self._store, split.train)
        self._pixel_size_um = common_pixel_size(self._store, split.train)
        self._stream = BatchStream(
            self._store,
            split.train,
            batch_size=train.batch_size,
            samples_per_epoch=config.data.samples_per_epoch,
            augmentation=build_augmentation(
                config.augment.preset,
                crop_px=config.augment.crop_px,
                strength=config.augment.strength,
                is_photograph=self._pixels.are_photographs,
                options=config.augment.options,
                pipeline=config.augment.pipeline,
            ),
            seed=train.seed,
            num_threads=config.data.num_threads,
            with_classes=config.data.learn_classes,
            class_balance=config.data.class_balance,
        )
        self._resources.callback(self._stream.close)
        self._validator = Validator(
            self._store,
            split.val,
            device=self._device,
            dtype=dtype,
            tile_px=train.eval_tile_px,
            tile_overlap_px=train.eval_tile_overlap_px,
        )
        self._random = RandomState(train.seed, self._device)
        self._finishing = Finishing(
            self._fitted,
            self.objective,
            self._store,
            self._folder,
            device=self._device,
            random=self._random,
            alive=self._alive,
            free_memory=self._forget_learner,
        )
        with self._random.active():
            self._learner = Learner(
                fitted,
                self.objective,
                device=self._device,
                dtype=dtype,
                steps_per_epoch=self._stream.num_batches,
                micro_batches=self._micro_batches,
                pretrained=resumed is None,
                parent=parent,
            )
        self._transfer = self._learner.transfer
        if parent is not None:
            self._lineage = parent.lineage
        logger.info(
            "%d images to train on, %d to validate on, %d steps an epoch, %s in %s",
            len(split.train),
            len(split.val),
            self._stream.num_batches,
            self._device,
            dtype,
        )

    @property
    def learner(self) -> Learner:
        """The network and its optimiser. Not available after `close`."""
        assert self._learner is not None, "the trainer is closed, or has begun to tune"
        return self._learner

    @property
    def transfer(self) -> Transfer | None:
        """The tensors that the trial took over from another trial's checkpoint; None without one, or after resuming."""
        return self._transfer

    @property
    def sizes(self) -> dict[str, float]:
        """The sizes in pixels that were computed from the objects, by dotted key."""
        return sizes_of(self.config, self._fitted)

    @property
    def last_checkpoint(self) -> CheckpointFile | None:
        """The file of the last epoch's checkpoint; None before the first."""
        return self._folder.last

    @property
    def best_checkpoint(self) -> CheckpointFile | None:
        """The file of the best epoch's checkpoint; None before the first epoch with a value."""
        return self._folder.best

    def fit(self, reporter: Reporter) -> Outcome:
        """Train until the trial ends, and return its outcome.

        Raises:
            As `step`.
        """
        while (outcome := self.step(reporter)) is None:
            pass
        return outcome

    def step(self, reporter: Reporter) -> Outcome | None:
        """Train one epoch, validate, write the checkpoints, and report; after the last epoch, tune if configured.

        If the trial has ended already, for example when it resumed from its last epoch, nothing is trained or reported.

        Args:
            reporter: Receives the epoch's metrics. `train_loss` is the mean over the images; a model with several
                losses also has each of them, such as `train_loss_dice`. The others: `lr` (of the last step), `loss`,
                `pixel_dice`, `object_f1`, `object_dice`, `object_hausdorff` (see `Validator`), `epoch_s` (training and
                validation), `train_images_per_s`, `eval_s`.

        Returns:
            The outcome if the trial has ended; None if it continues.

        Raises:
            NonFiniteLossError: A loss became NaN or infinite. Weights and checkpoints are the last good ones.
            CheckpointError: The checkpoint or another file of the run could not be written.
            Exception: The reporter's error. In every case the trainer is closed.

        A failure of tuning does not fail the trained trial: it is logged and is in the outcome. Only a full disk is
        raised. Pictures that cannot be drawn never fail a trial.
        """
        if self._stop_reason is None:
            try:
                decision = self._run_epoch(self.epoch + 1, reporter)
            except BaseException:
                self.close()
                raise
            self._stop_reason = self._reason_to_stop(decision)
        if self._stop_reason is None:
            return None
        if self._stop_reason != "reporter":
            self._finish()
        return self._outcome(self._stop_reason)

    def _run_epoch(self, epoch: int, reporter: Reporter) -> Decision:
        started = time.perf_counter()
        with self._random.active():
            metrics = self._train(epoch)
            metrics |= self._validate(epoch)
        self._store.check_unchanged()  # before a checkpoint or a value comes of it
        metrics["epoch_s"] = time.perf_counter() - started
        self._conclude(epoch, metrics)
        return reporter.report(epoch, dict(metrics))

    def _train(self, epoch: int) -> dict[str, float]:
        """Train on the stream's batches of an epoch."""
        learner = self.learner
        started = time.perf_counter()
        sums: dict[str, float] = {}
        num_images = 0
        num_steps = self._stream.num_batches
        self._alive("step", f"epoch {epoch}, step 1 of {num_steps}")
        for step, batch in enumerate(self._stream.epoch(epoch - 1), start=2):  # the stream counts from 0
            for name, loss in learner.learn(to_device(batch, self._device)).items():
                sums[name] = sums.get(name, 0.0) + loss * len(batch.ids)
            num_images += len(batch.ids)
            if step <= num_steps:
                self._alive("step", f"epoch {epoch}, step {step} of {num_steps}")
        return {
            **loss_metrics("train_loss", {name: total / num_images for name, total in sums.items()}),
            "lr": learner.learning_rate.at(learner.num_steps - 1),
            "train_images_per_s": num_images / (time.perf_counter() - started),
        }

    def _validate(self, epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        metrics = self._validator.validate(self.learner.evaluated, epoch=epoch, alive=self._alive)
        return {**metrics, "eval_s": time.perf_counter() - started}

    def _finish(self) -> None:
        """Tune and draw the trained trial, as far as that is configured and not yet done."""
        best_epoch = self._progress.best_epoch
        try:
            if self.config.tuning.postprocess:
                self._finishing.tune(best_epoch)
            if self._num_pictures:
                self._finishing.draw(self._val_indices, self._num_pictures, best_epoch)
        except BaseException:
            self.close()
            raise

    def _forget_learner(self) -> None:
        self._learner = None

    def _conclude(self, epoch: int, metrics: dict[str, float]) -> None:
        """Count the epoch, let its value steer what depends on it, and put all of it on disk."""
        self._alive("files", f"epoch {epoch}, writing its files")
        value = metrics[self.objective.name]
        self.epoch = epoch
        self._metrics = metrics
        is_best = self._progress.update(epoch, value)
        self.learner.learning_rate.end_epoch(epoch, value)
        self._folder.add_epoch(epoch, metrics)
        self._events.add(epoch, metrics)
        self._folder.save(self._checkpoint(value), is_best=is_best)
        logger.info("epoch %d of %d: %s=%g", epoch, self.config.train.epochs, self.objective.name, value)

    def _checkpoint(self, value: float) -> Checkpoint:
        return Checkpoint(
            config=self._pixels.in_config(self._fitted).to_dict(),
            left_to_data=(*self._pixels.left_to_data(self.config), *left_to_objects(self.config)),
            dtype=self._pixels.dtype,
            config_digest=self.config.digest(),
            data_fingerprint=self._store.fingerprint,
            objective=self.objective.name,
            epoch=self.epoch,
            next_batch=0,
            value=value,
            metrics=self._metrics,
            progress=self._progress.state_dict(),
            random=self._random.state_dict(),
            lineage=self._lineage,
            pixel_size_um=self._pixel_size_um,
            **self.learner.state_dict(),
        )

    def _resume(self, checkpoint: Checkpoint, file: CheckpointFile) -> None:
        path = file.path
        was = DataConfig.model_validate(checkpoint.config["data"]).normalised_by
        if was != self._pixels.normalisation:
            raise CheckpointError(
                f"{path}: data.normalisation must be the trial's, {self._pixels.normalisation}, got {was}; "
                "start without it"
            )
        for what, expected, actual in (
            ("objective", self.objective.name, checkpoint.objective),
            ("data fingerprint", self._store.fingerprint, checkpoint.data_fingerprint),
        ):
            if expected != actual:
                raise CheckpointError(
                    f"{path}: {what} must be the trial's {expected[:16]}, got {actual[:16]}; start without it"
                )
        try:
            self.learner.load_state_dict(vars(checkpoint))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
            raise CheckpointError(f"{path}: does not fit this version's network ({reason})") from error
        self._random.load_state_dict(checkpoint.random)
        self._progress.load_state_dict(checkpoint.progress)
        self.epoch = checkpoint.epoch
        self._metrics = dict(checkpoint.metrics)
        self._lineage = checkpoint.lineage
        self._folder.resume(self.config, checkpoint, file)
        self._stop_reason = self._reason_to_stop(Decision.CONTINUE)

    def _reason_to_stop(self, decision: Decision) -> StopReason | None:
        patience = self.config.train.early_stop_patience
        if self.epoch >= self.config.train.epochs:
            return "epochs"
        if patience and self._progress.num_bad_epochs >= patience:
            return "plateau"
        return "reporter" if decision is Decision.STOP else None

    def _outcome(self, stop_reason: StopReason) -> Outcome:
        finishing = self._finishing
        return Outcome(
            stop_reason=stop_reason,
            epoch=self.epoch,
            best_epoch=self._progress.best_epoch,
            best_value=self._progress.best_value,
            last_metrics=dict(self._metrics),
            tuned=None if finishing.tuned is None else finishing.tuned.to_dict(),
            tuning_problem=finishing.tuning_problem,
            pictures=finishing.pictures,
            pictures_problem=finishing.pictures_problem,
        )

    def close(self) -> None:
        """Stop the stream's threads, and free the network and its device memory. May be called again."""
        self._resources.close()
        self._learner = None
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
