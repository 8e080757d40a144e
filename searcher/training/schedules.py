"""Learning-rate schedules: what the rate is at every optimiser step, counted from 0."""

import logging
import math
from typing import Any

from torch.optim import Optimizer

from searcher.parts import Part
from searcher.study.config import ScheduleConfig
from searcher.study.objectives import Objective
from searcher.study.parts import SCHEDULES
from searcher.training.plateau import PlateauCounter

__all__ = ["LearningRate", "Schedule", "constant", "cosine", "cosine_factor", "plateau", "warmup_factor"]

logger = logging.getLogger(__name__)


def warmup_factor(step: int, *, num_warmup_steps: int) -> float:
    """Return the linear warm-up's share of the peak rate, in (0, 1].

    The line starts at 0 one step before the first, so no step has a rate of 0. It reaches 1 at step `num_warmup_steps`,
    the first of the schedule proper.
    """
    return min(1.0, (step + 1) / (num_warmup_steps + 1))


def cosine_factor(step: int, *, num_steps: int, floor: float) -> float:
    """Return half a cosine from 1 at step 0 to `floor` at `num_steps`, one step past the last.

    `floor + (1 - floor) (1 + cos(pi step / num_steps)) / 2`, and `floor` from `num_steps` on (Loshchilov &
    Hutter 2017, arXiv 1608.03983, eq. 5, without restarts).

    Args:
        step: From 0.
        num_steps: Steps of the half cosine.
        floor: The factor at its end, 0 to 1.
    """
    if step >= num_steps:
        return floor
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


class Schedule:
    """The share of the peak rate at every step after warm-up: the base class of schedules, constant by itself."""

    def factor(self, step: int) -> float:
        """Return the share of the peak rate.

        Args:
            step: Optimiser steps since the end of warm-up, 0 at the first and during warm-up.
        """
        del step
        return 1.0

    def end_epoch(self, epoch: int, value: float, *, is_warm_up: bool) -> None:
        """Take in the objective's value of an epoch.

        Args:
            epoch: Counted from 1.
            value: The objective.
            is_warm_up: Whether the epoch was one of warm-up, to its last step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which `load_state_dict` continues; nothing where the step decides alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""


class _Cosine(Schedule):
    """Half a cosine to `min_lr_fraction` of the peak."""

    def __init__(self, config: ScheduleConfig, num_steps: int) -> None:
        self._floor = config.min_lr_fraction
        self._num_steps = num_steps

    def factor(self, step: int) -> float:
        return cosine_factor(step, num_steps=self._num_steps, floor=self._floor)


class _Plateau(Schedule):
    """Lower by `plateau_factor` after `plateau_patience` epochs without improvement; warm-up does not count."""

    def __init__(self, config: ScheduleConfig, objective: Objective) -> None:
        self._config = config
        self._counter = PlateauCounter(objective)
        self._scale = 1.0

    def factor(self, step: int) -> float:
        del step
        return self._scale

    def end_epoch(self, epoch: int, value: float, *, is_warm_up: bool) -> None:
        self._counter.update(epoch, value)
        if is_warm_up:
            self._counter.restart()
        elif self._counter.num_bad_epochs >= self._config.plateau_patience:
            self._scale = max(self._scale * self._config.plateau_factor, self._config.min_lr_fraction)
            self._counter.restart()

    def state_dict(self) -> dict[str, Any]:
        return {"plateau": self._counter.state_dict(), "plateau_scale": self._scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._counter.load_state_dict(state["plateau"])
        self._scale = float(state["plateau_scale"])


constant: Part[Schedule] = Part(Schedule)
cosine: Part[Schedule] = Part(_Cosine)
plateau: Part[Schedule] = Part(_Plateau)


class LearningRate:
    """The learning rate as a function of the step: a linear warm-up, then the configured schedule.

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
        self._peak = peak
        self._steps_per_epoch = steps_per_epoch
        num_steps = steps_per_epoch * num_epochs
        self._num_warmup_steps = round(config.warmup_epochs * steps_per_epoch)
        self._schedule: Schedule = SCHEDULES[config.name].made(
            config=config,
            num_steps=max(1, num_steps - self._num_warmup_steps),
            steps_per_epoch=steps_per_epoch,
            objective=objective,
            options=config.options,
        )
        if self._num_warmup_steps >= num_steps:
            logger.warning(
                "schedule.warmup_epochs=%g is not below train.epochs=%d: the learning rate never reaches %g",
                config.warmup_epochs,
                num_epochs,
                peak,
            )

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over the whole training."""
        shape = self._schedule.factor(max(0, step - self._num_warmup_steps))
        return self._peak * warmup_factor(step, num_warmup_steps=self._num_warmup_steps) * shape

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set the optimiser's learning rate for a step, and return it."""
        lr = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        return lr

    def end_epoch(self, epoch: int, value: float) -> None:
        """Take in the objective's value of an epoch, counted from 1. Of ours only `plateau` changes by it."""
        self._schedule.end_epoch(
            epoch, value, is_warm_up=epoch * self._steps_per_epoch <= self._num_warmup_steps
        )

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which `load_state_dict` continues."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._schedule.load_state_dict(state)
