"""Learning-rate schedules: what the rate is at every optimiser step, counted from 0."""

import logging
import math
from typing import Any

from torch.optim import Optimizer

from searcher.study.config import ScheduleConfig
from searcher.study.objectives import Objective
from searcher.training.plateau import PlateauCounter

__all__ = ["LearningRate", "cosine_factor", "warmup_factor"]

logger = logging.getLogger(__name__)


def warmup_factor(step: int, *, num_warmup_steps: int) -> float:
    """Return the linear warm-up's share of the peak rate, in (0, 1].

    The line starts at 0 one step before the first, so that no step is spent on a rate of 0, and reaches 1 at
    step `num_warmup_steps`, the first of the schedule proper.
    """
    return min(1.0, (step + 1) / (num_warmup_steps + 1))


def cosine_factor(step: int, *, num_steps: int, floor: float) -> float:
    """Return half a cosine from 1 at step 0 to `floor` at `num_steps`, one step past the last.

    `floor + (1 - floor) (1 + cos(pi step / num_steps)) / 2`, and `floor` from `num_steps` on (Loshchilov &
    Hutter 2017, arXiv 1608.03983, eq. 5, without restarts).
    """
    if step >= num_steps:
        return floor
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


class LearningRate:
    """The learning rate as a function of the step.

    `constant` and `cosine` depend on the step alone. `plateau` also depends on the objective's values so far,
    which `end_epoch` takes in: after `plateau_patience` epochs without improvement the rate is multiplied by
    `plateau_factor`, not below `min_lr_fraction` of the peak, and counting begins again. Epochs of warm-up do
    not count against it.

    Args:
        config: Shape, warm-up, floor.
        peak: Learning rate that warm-up reaches.
        steps_per_epoch: Optimiser steps of one epoch.
        num_epochs: Epochs of the whole training.
        objective: What `plateau` watches.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        *,
        peak: float,
        steps_per_epoch: int,
        num_epochs: int,
        objective: Objective,
    ) -> None:
        assert steps_per_epoch > 0, steps_per_epoch
        assert num_epochs > 0, num_epochs
        self._config = config
        self._peak = peak
        self._steps_per_epoch = steps_per_epoch
        self._num_steps = steps_per_epoch * num_epochs
        self._num_warmup_steps = round(config.warmup_epochs * steps_per_epoch)
        self._plateau = PlateauCounter(objective)
        self._plateau_scale = 1.0
        if self._num_warmup_steps >= self._num_steps:
            logger.warning(
                "schedule.warmup_epochs=%g is not below train.epochs=%d: the learning rate never reaches %g",
                config.warmup_epochs,
                num_epochs,
                peak,
            )

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over the whole training."""
        return self._peak * warmup_factor(step, num_warmup_steps=self._num_warmup_steps) * self._shape(step)

    def _shape(self, step: int) -> float:
        match self._config.name:
            case "constant":
                return 1.0
            case "cosine":
                return cosine_factor(
                    max(0, step - self._num_warmup_steps),
                    num_steps=max(1, self._num_steps - self._num_warmup_steps),
                    floor=self._config.min_lr_fraction,
                )
            case "plateau":
                return self._plateau_scale

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set the optimiser's learning rate for a step, and return it."""
        lr = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        return lr

    def end_epoch(self, epoch: int, value: float) -> None:
        """Take in the objective's value of an epoch, counted from 1. Only `plateau` changes by it."""
        if self._config.name != "plateau":
            return
        self._plateau.update(epoch, value)
        if epoch * self._steps_per_epoch <= self._num_warmup_steps:
            self._plateau.restart()
        elif self._plateau.num_bad_epochs >= self._config.plateau_patience:
            self._plateau_scale = max(
                self._plateau_scale * self._config.plateau_factor, self._config.min_lr_fraction
            )
            self._plateau.restart()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which `load_state_dict` continues."""
        return {"plateau": self._plateau.state_dict(), "plateau_scale": self._plateau_scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._plateau.load_state_dict(state["plateau"])
        self._plateau_scale = float(state["plateau_scale"])
