"""The optimisers, schedules, samplers and pruners that a study file can name, ours and those of plug-ins.

A plug-in registers its own by a decorator:

    from searcher.parts import Section
    from searcher.study.parts import register_optimizer

    class LionOptions(Section):
        beta: float = Field(default=0.9, ge=0.0, lt=1.0)

    @register_optimizer("lion", options=LionOptions)
    class Lion(torch.optim.Optimizer): ...

A study file then has `optimizer.name = "lion"` and `optimizer.options.beta = 0.95`, and can search both.
Imports neither torch nor Optuna nor Ray.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from searcher.parts import Part
from searcher.plugins import Registry

__all__ = [
    "OPTIMIZERS",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "Sampler",
    "Stopped",
    "register_optimizer",
    "register_pruner",
    "register_sampler",
    "register_schedule",
]

F = TypeVar("F", bound=Callable[..., Any])


Stopped = Literal["ignored", "as they are", "predicted"]
"""What a sampler makes of trials that were stopped. `ignored`: it learns from no trial. `as they are`: it takes PRUNED
trials with their last value. `predicted`: it learns from COMPLETE trials alone, so it gets the values that the stopped
ones would have reached."""


@dataclass(frozen=True)
class Sampler(Part[Any]):
    """A registered sampler, whose `build` returns an object with Optuna's sampler interface."""

    several_objectives: bool = False
    """Whether it can look for compromises between several objectives."""
    stopped: Stopped = "predicted"
    """What it makes of trials that were stopped."""


OPTIMIZERS: Registry[Part[Any]] = Registry(
    "optimiser",
    key="optimizer.name",
    built_in={name: f"searcher.training.optimizers:{name}" for name in ("sgd", "adam", "adamw")},
)
"""By `optimizer.name`."""

SCHEDULES: Registry[Part[Any]] = Registry(
    "schedule",
    key="schedule.name",
    built_in={name: f"searcher.training.schedules:{name}" for name in ("constant", "cosine", "plateau")},
)
"""By `schedule.name`."""

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    key="search.sampler",
    built_in={
        name: f"searcher.orchestration.trials.samplers:{name.replace('-', '_')}"
        for name in ("random", "qmc", "tpe", "gp", "cmaes", "fast-gp")
    },
)
"""By `search.sampler`."""

PRUNERS: Registry[Part[Any]] = Registry(
    "pruner",
    key="pruner.name",
    built_in={name: f"searcher.orchestration.trials.scheduler:{name}" for name in ("asha", "none")},
)
"""By `pruner.name`."""


def register_optimizer(name: str, *, options: type[BaseModel] | None = None) -> Callable[[F], F]:
    """Return a decorator that registers an optimiser under a name, for a plug-in.

    The decorated class or function is called with parameter groups, as torch's optimisers are, and by name with `lr`,
    its own options, and those of `momentum`, `nesterov` and `weight_decay` that its signature has. The groups already
    say which parameters decay.

    Args:
        name: Name of the optimiser in study files.
        options: Class of the optimiser's own settings, derived from `searcher.parts.Section`, each with a default: the
            keys of `optimizer.options`.

    Raises:
        PluginError: The name is taken, or `options` is no such class.
    """
    return _decorator(OPTIMIZERS, name, options)


def register_schedule(name: str, *, options: type[BaseModel] | None = None) -> Callable[[F], F]:
    """Return a decorator that registers a learning-rate schedule under a name, for a plug-in.

    The decorated subclass of `searcher.training.schedules.Schedule` is called with its own options, and with those of
    `config` (all of `[schedule]`), `num_steps` (optimiser steps after warm-up), `steps_per_epoch` and `objective` that
    its signature has.

    Args:
        name: Name of the schedule in study files.
        options: Class of the schedule's own settings, derived from `searcher.parts.Section`, each with a default: the
            keys of `schedule.options`.

    Raises:
        PluginError: The name is taken, or `options` is no such class.
    """
    return _decorator(SCHEDULES, name, options)


def register_sampler(
    name: str,
    *,
    options: type[BaseModel] | None = None,
    several_objectives: bool = False,
    stopped: Stopped = "predicted",
) -> Callable[[F], F]:
    """Return a decorator that registers a sampler under a name, for a plug-in.

    The decorated class or function returns an object with Optuna's sampler interface. It is called with its own
    options, and with those of `seed` (another one at each launch), `study_seed` (always the same), `n_startup_trials`
    and `space` (the `SearchSpace` with its conditions) that its signature has.

    Args:
        name: Name of the sampler in study files.
        options: Class of the sampler's own settings, derived from `searcher.parts.Section`, each with a default: the
            keys of `search.options`.
        several_objectives: Whether the sampler can optimise several objectives.
        stopped: How trials that were stopped early are passed to the sampler; see `Stopped`.

    Raises:
        PluginError: The name is taken, or `options` is no such class.
    """

    def register(build: F) -> F:
        SAMPLERS.register(name, Sampler(build, options, several_objectives, stopped))
        return build

    return register


def register_pruner(name: str, *, options: type[BaseModel] | None = None) -> Callable[[F], F]:
    """Return a decorator that registers a pruner under a name, for a plug-in.

    The decorated class or function is called with its own options, and with those of `grace_epochs`,
    `reduction_factor`, `max_epochs` and `mode` ("min" or "max") that its signature has. It returns an object with
    Optuna's pruner interface, or a scheduler of Ray Tune. A pruner gets every epoch of every trial, and decides from
    `grace_epochs` on.

    Args:
        name: Name of the pruner in study files.
        options: Class of the pruner's own settings, derived from `searcher.parts.Section`, each with a default: the
            keys of `pruner.options`.

    Raises:
        PluginError: The name is taken, or `options` is no such class.
    """
    return _decorator(PRUNERS, name, options)


def _decorator(registry: Registry[Part[Any]], name: str, options: type[BaseModel] | None) -> Callable[[F], F]:
    def register(build: F) -> F:
        registry.register(name, Part(build, options))
        return build

    return register
