"""The search space of a study: named parameters with ranges, choices and conditions.

A parameter's name is the dotted key of the trial configuration that it sets. So study file, Optuna's tables and trainer
use the same names. In a study file:

    [space.optimizer]
    name = { choices = ["sgd", "adamw"] }
    lr = { low = 1e-5, high = 1e-1, log = true }
    momentum = { low = 0.0, high = 0.99, when = { "optimizer.name" = ["sgd"] } }

A space that was narrowed keeps the one that it came from, for the few trials that look outside:

    lr = { low = 3e-4, high = 2e-3, log = true, original_range = [1e-5, 1e-1] }
    name = { choices = ["adamw"], original_range = ["sgd", "adamw"] }

Optuna's tables then have the whole space, so that both kinds of trials are of one study.

What is known beforehand is a prior, the likely value, with a confidence of `low`, `medium` (the default) or `high`:

    lr = { low = 1e-5, high = 1e-1, log = true, prior = 1e-3, confidence = "high" }
    name = { choices = ["sgd", "adamw"], prior = "adamw" }
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

__all__ = [
    "Choice",
    "Condition",
    "Confidence",
    "Domain",
    "FloatRange",
    "IntRange",
    "Parameter",
    "SearchSpace",
    "Suggester",
    "Value",
]

Value = bool | int | float | str
"""What a parameter can be set to."""


class Suggester(Protocol):
    """The methods of `optuna.Trial` that a search space uses to draw values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Return a float in [low, high].

        Args:
            name: Dotted key of the parameter.
            low: The lowest value.
            high: The highest value.
            step: Distance between the values, starting from `low`; None for any value.
            log: Whether values are drawn on a logarithmic scale.
        """

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return an int in [low, high].

        Args:
            name: Dotted key of the parameter.
            low: The lowest value.
            high: The highest value.
            step: Distance between the values, starting from `low`.
            log: Whether values are drawn on a logarithmic scale.
        """

    # Any: Optuna's overloads promise a type for every list of choices, which no plain signature can.
    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True)
class FloatRange:
    """A range of floats from `low` to `high`, with a logarithmic scale or a grid of `step` if set."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    original_range: tuple[float, float] | None = None
    """Lowest and highest value before it was narrowed, None if it was not."""

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value of the original range, drawn by `suggester`."""
        low, high = self.original_range or (self.low, self.high)
        return suggester.suggest_float(name, low, high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether a value is in the range, and on its grid."""
        if isinstance(value, bool | str):
            return False
        if self.step is None:
            return self.low <= value <= self.high
        # 0.1 + 0.2 is a little more than 0.3.
        steps, most = (value - self.low) / self.step, (self.high - self.low) / self.step
        return -1e-8 < steps < most + 1e-8 and abs(steps - round(steps)) < 1e-8

    def edges(self) -> list[Value]:
        """Return the smallest and the largest value."""
        return [self.low, self.high]

    def narrowed(self) -> "FloatRange":
        """Return the narrowed range, without its original range."""
        return replace(self, original_range=None)

    def widened(self) -> "FloatRange":
        """Return the original range; the range itself if it was not narrowed."""
        low, high = self.original_range or (self.low, self.high)
        return replace(self, low=low, high=high, original_range=None)

    def __str__(self) -> str:
        scale = " log" if self.log else f" step {self.step!r}" if self.step else ""
        return f"{self.low!r} .. {self.high!r}{scale}{_of(self)}"


@dataclass(frozen=True)
class IntRange:
    """A range of integers from `low` to `high`, both included, with a logarithmic scale or a grid of `step` if set."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    original_range: tuple[int, int] | None = None
    """Lowest and highest value before it was narrowed, None if it was not."""

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value of the original range, drawn by `suggester`."""
        low, high = self.original_range or (self.low, self.high)
        return suggester.suggest_int(name, low, high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether a value is in the range, and on its grid."""
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return is_int and self.low <= value <= self.high and (value - self.low) % self.step == 0  # type: ignore[operator]

    def edges(self) -> list[Value]:
        """Return the smallest and the largest value."""
        return [self.low, self.high]

    def narrowed(self) -> "IntRange":
        """Return the narrowed range, without its original range."""
        return replace(self, original_range=None)

    def widened(self) -> "IntRange":
        """Return the original range; the range itself if it was not narrowed."""
        low, high = self.original_range or (self.low, self.high)
        return replace(self, low=low, high=high, original_range=None)

    def __str__(self) -> str:
        scale = " log" if self.log else f" step {self.step}" if self.step != 1 else ""
        return f"{self.low} .. {self.high}{scale}{_of(self)}"


@dataclass(frozen=True)
class Choice:
    """A list of values of which one is chosen."""

    choices: tuple[Value, ...]
    original_range: tuple[Value, ...] | None = None
    """The choices before it was narrowed, None if it was not."""

    def suggest(self, suggester: Suggester, name: str) -> Value:
        """Return a value of the original list, drawn by `suggester`."""
        value: Value = suggester.suggest_categorical(name, self.original_range or self.choices)
        return value

    def contains(self, value: Value) -> bool:
        """Return whether a value is in the list; 1, 1.0 and true are three different values."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def edges(self) -> list[Value]:
        """Return all choices."""
        return list(self.choices)

    def narrowed(self) -> "Choice":
        """Return the narrowed list, without its original list."""
        return Choice(self.choices)

    def widened(self) -> "Choice":
        """Return the original list; the list itself if it was not narrowed."""
        return Choice(self.original_range or self.choices)

    def __str__(self) -> str:
        return " | ".join(repr(choice) for choice in self.choices) + _of(self)


def _of(domain: FloatRange | IntRange | Choice) -> str:
    return f" (of {domain.widened()})" if domain.original_range is not None else ""


Domain = FloatRange | IntRange | Choice
"""What a parameter can be."""


@dataclass(frozen=True)
class Condition:
    """The condition that a parameter is searched only if another parameter has one of certain values."""

    parent: str
    values: tuple[Value, ...]

    def holds(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the other parameter was chosen, with one of the values."""
        return self.parent in chosen and chosen[self.parent] in self.values

    def __str__(self) -> str:
        return f"{self.parent} = {' | '.join(repr(value) for value in self.values)}"


Confidence = Literal["low", "medium", "high"]
"""How near to its prior a parameter's best value is thought to be."""


@dataclass(frozen=True)
class Parameter:
    """A searched key of the trial configuration, with its range or choices and its conditions."""

    name: str
    domain: Domain
    when: tuple[Condition, ...] = ()
    prior: Value | None = None
    """The likely value; None where nothing is known."""
    confidence: Confidence = "medium"
    """In the prior."""

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the parameter is searched, given the values chosen before it."""
        return all(condition.holds(chosen) for condition in self.when)


@dataclass(frozen=True)
class SearchSpace:
    """The searched parameters of a study, each after those on which it depends."""

    parameters: tuple[Parameter, ...]

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def __contains__(self, name: object) -> bool:
        return any(parameter.name == name for parameter in self.parameters)

    @property
    def is_narrowed(self) -> bool:
        """Whether at least one parameter was narrowed."""
        return any(parameter.domain.original_range is not None for parameter in self.parameters)

    def narrow(self) -> "SearchSpace":
        """Return the narrowed space, without the original ranges."""
        return self._with_domains(lambda domain: domain.narrowed())

    def widened(self) -> "SearchSpace":
        """Return the original space; an equal one if nothing was narrowed."""
        return self._with_domains(lambda domain: domain.widened())

    def _with_domains(self, change: Callable[[Domain], Domain]) -> "SearchSpace":
        return SearchSpace(tuple(replace(each, domain=change(each.domain)) for each in self.parameters))

    def contains(self, params: Mapping[str, Value]) -> bool:
        """Return whether there is a value for each active parameter and no other, each in its range or list."""
        active = [parameter for parameter in self.parameters if parameter.active(params)]
        return {parameter.name for parameter in active} == set(params) and all(
            parameter.domain.contains(params[parameter.name]) for parameter in active
        )

    def suggest(self, suggester: Suggester) -> dict[str, Value]:
        """Return a value for every active parameter, drawn in the order of dependence.

        If this space was narrowed, the suggester gets the original ranges, so that all trials are of one study.
        """
        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.active(chosen):
                chosen[parameter.name] = parameter.domain.suggest(suggester, parameter.name)
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain values, for the study's identity."""
        return {
            parameter.name: {
                "range": str(parameter.domain),
                "when": [str(condition) for condition in parameter.when],
                **(
                    {}
                    if parameter.prior is None
                    else {"prior": f"{parameter.prior!r} {parameter.confidence}"}
                ),
            }
            for parameter in self.parameters
        }
