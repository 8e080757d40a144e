"""The network of one trial together with everything that changes its weights."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from searcher.exceptions import NonFiniteLossError, UserError
from searcher.inference.precision import autocast
from searcher.models.base import SegmentationModel
from searcher.models.exceptions import WeightsError
from searcher.models.registry import build_model
from searcher.models.values import TensorBatch
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.ema import WeightAverage
from searcher.training.freezing import freeze
from searcher.training.optimizers import build_optimizer
from searcher.training.schedules import LearningRate
from searcher.training.warm_start import ParentCheckpoint, Transfer, keep_optimizer, refuse_fresh, warm_start

__all__ = ["Learner"]


class Learner:
    """The network of a trial, with the average of its weights, its optimiser and its learning rate.

    The network is built with the global random generators. Its convolutions are channels-last, the layout of the images
    and of tensor cores. On the CPU that is 3 to 10% faster than contiguous ones
    (`tests/benchmarks/training_layout.py`).

    With `micro_batches` of 2 or more, a batch goes through the network in that many parts of nearly equal size. Their
    gradients add up, and one optimiser step follows. Only the activations of one part are in memory at a time. Each
    part's losses are weighted by its share of the images. The step equals that of the whole batch, up to rounding,
    under two conditions: (1) no image's output depends on the others of its batch (`norm` is not `batch`); (2) every
    loss is a mean over the images, as `bce` is where all pixels are annotated. Otherwise the step is that of a smaller
    batch. Batch norm then uses mean and variance of each part, and updates its running ones once per part. Soft Dice,
    a ratio of sums over the batch, becomes the mean of the parts' ratios. Dropout always draws other numbers.

    Layers frozen by `warm_start.freeze` keep their weights, and their norms stay in eval mode.

    Args:
        config: Configuration of the trial, with sizes and channels resolved.
        objective: Metric that the plateau schedule watches.
        device: Device to train on.
        dtype: Number format of the forward pass, see `resolve_precision`.
        steps_per_epoch: Optimiser steps of one epoch.
        micro_batches: Number of parts of a batch, at least 1; a batch with fewer images has one part for each image.
        pretrained: Whether to start from the pretrained weights that the model's settings name. False if a state is
            loaded afterwards.
        parent: Checkpoint of another trial to start from, or None. Tensors that do not fit stay fresh or pretrained.
            The average of the weights starts from the same weights.

    Raises:
        UserError: Pretrained weights are missing or do not fit. Or no tensor of the parent fits, a layer to freeze does
            not, or its optimiser cannot be kept.
    """

    def __init__(
        self,
        config: TrialConfig,
        objective: Objective,
        *,
        device: torch.device,
        dtype: torch.dtype,
        steps_per_epoch: int,
        micro_batches: int = 1,
        pretrained: bool = True,
        parent: ParentCheckpoint | None = None,
    ) -> None:
        assert micro_batches >= 1, micro_batches
        self._micro_batches = micro_batches
        self._device = device
        self._dtype = dtype
        self._grad_clip_norm = config.train.grad_clip_norm
        self._steps_per_epoch = steps_per_epoch
        self.num_steps = 0
        """Optimiser steps made."""
        self.model = build_model(config.model, config.postprocess)
        """The network that is trained."""
        if pretrained:
            _load_pretrained(self.model)
        self.transfer: Transfer | None = None
        """What was taken over from the other trial's checkpoint, None if there was none."""
        if parent is not None:
            self.transfer = warm_start(
                self.model,
                parent.checkpoint,
                settings=parent.settings,
                class_names=config.model.class_names,
            )
        frozen = freeze(self.model, config.warm_start.freeze)
        if self.transfer is not None:
            refuse_fresh(frozen.names, self.transfer, freeze=config.warm_start.freeze)
        self._frozen_norms = frozen.norms
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = (
            WeightAverage(self.model, decay=config.train.ema_decay) if config.train.ema_decay else None
        )
        """The moving average of its weights, if the configuration wants one."""
        if config.train.compile:
            self.model.compile()
        self._optimizer = build_optimizer(self.model, config.optimizer)
        if parent is not None and self.transfer is not None and config.warm_start.optimizer == "keep":
            keep_optimizer(self._optimizer, parent.checkpoint, config, self.transfer)
        self.learning_rate = LearningRate(
            config.schedule,
            peak=config.optimizer.lr,
            steps_per_epoch=steps_per_epoch,
            num_epochs=config.train.epochs,
            objective=objective,
        )
        """The learning rate of every step."""

    @property
    def evaluated(self) -> SegmentationModel:
        """The network to validate: the average if there is one, otherwise the trained network."""
        return self.model if self.average is None else self.average.model

    def learn(self, batch: TensorBatch) -> dict[str, float]:
        """Make one optimiser step on a batch and return its losses before the step, by name.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite, or the norm of the gradients is, if it is to be clipped. The
                weights are unchanged.
        """
        self.model.train()
        for norm in self._frozen_norms:
            norm.eval()
        self.learning_rate.apply(self._optimizer, self.num_steps)
        self._optimizer.zero_grad(set_to_none=True)
        losses: dict[str, torch.Tensor] = {}
        for part, share in _parts(batch, self._micro_batches):
            for name, loss in self._backward(part, share).items():
                losses[name] = losses[name] + loss if name in losses else loss
        # Looked at only now, so that a GPU has the backward pass to do while the CPU waits for the values.
        values = self._finite(losses)
        self._clip_gradients()
        self._optimizer.step()
        self.num_steps += 1
        if self.average is not None:
            self.average.update(self.model)
        return values

    def _backward(self, batch: TensorBatch, share: float) -> dict[str, torch.Tensor]:
        """Add to the gradients those of a part of the batch, and return its losses; both times its share."""
        with autocast(self._device, self._dtype):
            losses = self.model.training_step(batch)
        # A share of 1 changes no bit.
        (torch.stack([*losses.values()]).sum() * share).backward()  # type: ignore[no-untyped-call]
        return {name: loss.detach() * share for name, loss in losses.items()}

    def _finite(self, losses: dict[str, torch.Tensor]) -> dict[str, float]:
        values: list[float] = torch.stack([loss.float() for loss in losses.values()]).tolist()
        named = dict(zip(losses, values, strict=True))
        for name, value in named.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(self._diverged(f"loss '{name}'", value))
        return named

    def _clip_gradients(self) -> None:
        if not self._grad_clip_norm:
            return
        norm = float(clip_grad_norm_(self.model.parameters(), self._grad_clip_norm))
        if not math.isfinite(norm):
            raise NonFiniteLossError(self._diverged("the gradients' norm", norm))

    def _diverged(self, what: str, value: float) -> str:
        epoch, step = divmod(self.num_steps, self._steps_per_epoch)
        lr = self.learning_rate.at(self.num_steps)
        return (
            f"{what} became {value} at epoch {epoch + 1}, step {step + 1}, learning rate {lr:g}; "
            f"lower optimizer.lr{'' if self._grad_clip_norm else ' or set train.grad_clip_norm'}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the entries `step`, `model`, `ema`, `optimizer` and `schedule` of a checkpoint."""
        return {
            "step": self.num_steps,
            "model": self.model.state_dict(),
            "ema": None if self.average is None else self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self.learning_rate.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the learner from the result of `state_dict` for the same configuration.

        Raises:
            RuntimeError, ValueError, KeyError: The state is of another network or optimiser.
        """
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.learning_rate.load_state_dict(state["schedule"])
        self.num_steps = int(state["step"])


def _load_pretrained(model: SegmentationModel) -> None:
    try:
        model.load_pretrained()
    except WeightsError as error:
        raise UserError(str(error)) from error


def _parts(batch: TensorBatch, num_parts: int) -> Iterator[tuple[TensorBatch, float]]:
    """Yield views of a batch's parts, at least one image each, their sizes at most 1 apart, and their shares."""
    num_images = len(batch.images)
    num_parts = min(num_parts, num_images)
    images, labels = batch.images.tensor_split(num_parts), batch.labels.tensor_split(num_parts)
    classes = [None] * num_parts if batch.classes is None else batch.classes.tensor_split(num_parts)
    for part in map(TensorBatch, images, labels, classes):
        yield part, len(part.images) / num_images
