"""The search space of a study: named parameters with ranges, choices and conditions.

A parameter's name is the dotted key of the trial configuration that it sets, so that nothing has to be
translated between the study file, Optuna's tables and the trainer. In a study file:

    [space.optimizer]
    name = { choices = ["sgd", "adamw"] }
    lr = { low = 1e-5, high = 1e-1, log = true }
    momentum = { low = 0.0, high = 0.99, when = { "optimizer.name" = ["sgd"] } }
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Choice", "Condition", "FloatRange", "IntRange", "Parameter", "SearchSpace", "Suggester", "Value"]

Value = bool | int | float | str
"""What a parameter can be set to."""


class Suggester(Protocol):
    """The part of `optuna.Trial` that a space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Return a float in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return an int in [low, high]."""

    # Any: Optuna's overloads promise a type for every list of choices, which no plain signature can.
    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True)
class FloatRange:
    """All floats from `low` to `high`, on a logarithmic scale or a grid of `step` if asked."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value drawn by `suggester`."""
        return suggester.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether `value` can be drawn."""
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def edges(self) -> list[Value]:
        """Return the extreme values."""
        return [self.low, self.high]

    def __str__(self) -> str:
        scale = " log" if self.log else f" step {self.step!r}" if self.step else ""
        return f"{self.low!r} .. {self.high!r}{scale}"


@dataclass(frozen=True)
class IntRange:
    """Integers from `low` to `high`, both included, on a logarithmic scale or a grid of `step` if asked."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value drawn by `suggester`."""
        return suggester.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether `value` can be drawn."""
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return is_int and self.low <= value <= self.high and (value - self.low) % self.step == 0  # type: ignore[operator]

    def edges(self) -> list[Value]:
        """Return the extreme values."""
        return [self.low, self.high]

    def __str__(self) -> str:
        scale = " log" if self.log else f" step {self.step}" if self.step != 1 else ""
        return f"{self.low} .. {self.high}{scale}"


@dataclass(frozen=True)
class Choice:
    """One of a list of values."""

    choices: tuple[Value, ...]

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value drawn by `suggester`."""
        value: Value = suggester.suggest_categorical(name, self.choices)
        return value

    def contains(self, value: Value) -> bool:
        """Return whether `value` can be drawn; 1, 1.0 and true are three different values."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def edges(self) -> list[Value]:
        """Return all choices."""
        return list(self.choices)

    def __str__(self) -> str:
        return " | ".join(repr(choice) for choice in self.choices)


@dataclass(frozen=True)
class Condition:
    """A parameter is searched only where another one has one of some values."""

    parent: str
    values: tuple[Value, ...]

    def holds(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the parent was chosen, and as one of the values."""
        return self.parent in chosen and chosen[self.parent] in self.values

    def __str__(self) -> str:
        return f"{self.parent} = {' | '.join(repr(value) for value in self.values)}"


@dataclass(frozen=True)
class Parameter:
    """One searched key of the trial configuration."""

    name: str
    domain: FloatRange | IntRange | Choice
    when: tuple[Condition, ...] = ()

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the parameter is searched, given what was chosen before it."""
        return all(condition.holds(chosen) for condition in self.when)


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a study, each after those that it depends on."""

    parameters: tuple[Parameter, ...]

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def __contains__(self, name: object) -> bool:
        return any(parameter.name == name for parameter in self.parameters)

    def suggest(self, suggester: Suggester) -> dict[str, Value]:
        """Return a value for every active parameter, drawn in the order of their dependence."""
        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.active(chosen):
                chosen[parameter.name] = parameter.domain.suggest(suggester, parameter.name)
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain values, for the identity of a study."""
        return {
            parameter.name: {
                "range": str(parameter.domain),
                "when": [str(condition) for condition in parameter.when],
            }
            for parameter in self.parameters
        }
