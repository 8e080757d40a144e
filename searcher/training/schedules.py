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
    """Return the factor of the linear warm-up for a step, as a share of the peak rate, in (0, 1].

    The line starts at 0 one step before the first, so no step has a rate of 0. It reaches 1 at step `num_warmup_steps`,
    the first after the warm-up.
    """
    return min(1.0, (step + 1) / (num_warmup_steps + 1))


def cosine_factor(step: int, *, num_steps: int, floor: float) -> float:
    """Return the factor of a cosine schedule for a step: from 1 at step 0 to `floor` at step `num_steps`.

    It is `floor + (1 - floor) (1 + cos(pi step / num_steps)) / 2`, and `floor` from `num_steps` on (Loshchilov & Hutter
    2017, arXiv 1608.03983, eq. 5, without restarts).

    Args:
        step: Number of the step, from 0.
        num_steps: Number of steps of the half cosine.
        floor: The factor at the end, 0 to 1.
    """
    if step >= num_steps:
        return floor
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


class Schedule:
    """The base class of learning-rate schedules after warm-up. By itself it is constant."""

    def factor(self, step: int) -> float:
        """Return the factor on the peak rate for a step.

        Args:
            step: Number of steps since the end of warm-up; 0 at the first and during warm-up.
        """
        del step
        return 1.0

    def end_epoch(self, epoch: int, value: float, *, is_warm_up: bool) -> None:
        """Called at the end of each epoch with the objective's value. Does nothing by default.

        Args:
            epoch: Number of the epoch, from 1.
            value: Value of the objective.
            is_warm_up: Whether warm-up lasted to the epoch's last step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for `load_state_dict`; empty if the factor depends on the step only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from the result of `state_dict`."""


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
    """The learning rate at every step: a linear warm-up, then the configured schedule.

    `constant` and `cosine` depend on the step only. `plateau` also depends on the objective's values, passed to
    `end_epoch`. After `plateau_patience` epochs without improvement the rate is multiplied by `plateau_factor`, but not
    below `min_lr_fraction` of the peak, and counting restarts. Epochs of warm-up do not count.

    Args:
        config: The settings of schedule, warm-up and floor.
        peak: Learning rate at the end of warm-up.
        steps_per_epoch: Optimiser steps of one epoch.
        num_epochs: Epochs of the whole training.
        objective: Metric that `plateau` watches.
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
        """Return the learning rate at a step, which is counted from 0 over the whole training."""
        shape = self._schedule.factor(max(0, step - self._num_warmup_steps))
        return self._peak * warmup_factor(step, num_warmup_steps=self._num_warmup_steps) * shape

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set the optimiser's learning rate for a step, and return it."""
        lr = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        return lr

    def end_epoch(self, epoch: int, value: float) -> None:
        """Record the objective's value of an epoch, from 1. Of the built-in schedules, only `plateau` uses it."""
        self._schedule.end_epoch(
            epoch, value, is_warm_up=epoch * self._steps_per_epoch <= self._num_warmup_steps
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for `load_state_dict`."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from the result of `state_dict`."""
        self._schedule.load_state_dict(state)
