"""Configurations of a conditional space as points of the unit cube, and back."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from searcher.study.space import Choice, FloatRange, IntRange, SearchSpace, Value

__all__ = ["Encoding"]

Array = NDArray[np.float64]
_SIDE = math.sqrt(0.5)
"""Of a choice's columns: two different choices are 1 apart."""


class Encoding:
    """Converts parameters of a search space to points of numbers, and back.

    A point is float[D], a number for each parameter in the order of the space. For a range it is 0 .. 1, on the range's
    scale; for a choice it is the index. It is NaN if the condition of the parameter does not hold.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.parameters = space.parameters
        self._at = {each.name: num for num, each in enumerate(self.parameters)}
        widths = [
            len(each.domain.choices) if isinstance(each.domain, Choice) else 1 for each in self.parameters
        ]
        self.groups = np.repeat(np.arange(len(widths)), widths)
        """int[C]: the parameter that a column of `columns` belongs to."""
        self.num_choices = np.array(
            [len(each.domain.choices) if isinstance(each.domain, Choice) else 0 for each in self.parameters]
        )
        """int[D]: of a range 0."""
        self._grids = [
            None if isinstance(each.domain, Choice) else _grid(each.domain) for each in self.parameters
        ]

    def at(self, units: Array) -> Array:
        """Return points, float[N, D], for positions in the unit cube: the numbers of choices become indices."""
        counts = self.num_choices
        return np.where(counts > 0, np.minimum(np.floor(units * counts), np.maximum(counts - 1, 0)), units)

    def points(self, params: Sequence[Mapping[str, Value]]) -> Array:
        """Return sets of parameters as points, float[N, D]; a value outside its range is moved to the nearest end."""
        found = np.full((len(params), len(self.parameters)), np.nan)
        for row, chosen in zip(found, params, strict=True):
            for num, parameter in enumerate(self.parameters):
                if parameter.name in chosen:
                    row[num] = _place(parameter.domain, chosen[parameter.name])
        return found

    def snapped(self, points: Array) -> Array:
        """Return a copy of points, float[N, D], in which places in ranges with steps are moved to the nearest step.

        Ranges of more than 10,000 steps stay as they are; `params` rounds them. A parameter whose condition does not
        hold becomes NaN. Choices must be indices already, as `at` returns them.
        """
        points = points.copy()
        for num, parameter in enumerate(self.parameters):
            if (places := self._grids[num]) is not None:
                points[:, num] = places[np.searchsorted((places[1:] + places[:-1]) / 2, points[:, num])]
            for condition in parameter.when:
                holds = np.zeros(len(points), bool)
                if condition.parent in self._at:
                    parent = self._at[condition.parent]
                    for value in condition.values:
                        place = _place(self.parameters[parent].domain, value)
                        holds |= np.abs(points[:, parent] - place) < 1e-9
                points[~holds, num] = np.nan
        return points

    def params(self, point: Array) -> dict[str, Value]:
        """Return the parameters of a point."""
        return {
            each.name: _value(each.domain, float(place))
            for each, place in zip(self.parameters, point, strict=True)
            if not math.isnan(place)
        }

    def columns(self, points: Array) -> Array:
        """Return points in the form that the kernel compares, float[N, C].

        Each value of a choice has a column of its own; NaN becomes the middle of the range.
        """
        found = np.zeros((len(points), len(self.groups)))
        first = 0
        for num, count in enumerate(self.num_choices):
            column = points[:, num]
            if count:
                active = np.flatnonzero(~np.isnan(column))
                found[active, first + column[active].astype(int)] = _SIDE
            else:
                found[:, first] = np.where(np.isnan(column), 0.5, column)
            first += max(1, count)
        return found


def _forward(domain: FloatRange | IntRange, value: float) -> float:
    return math.log(value) if domain.log else float(value)


def _place(domain: FloatRange | IntRange | Choice, value: Value) -> float:
    if isinstance(domain, Choice):
        same = [num for num, each in enumerate(domain.choices) if each == value and type(each) is type(value)]
        return float(same[0]) if same else math.nan
    low, high = _forward(domain, domain.low), _forward(domain, domain.high)
    if high == low:
        return 0.5
    return min(1.0, max(0.0, (_forward(domain, max(float(value), domain.low)) - low) / (high - low)))


def _grid(domain: FloatRange | IntRange) -> Array | None:
    """Return the places that a range has, None for a continuous one or one of very many."""
    if domain.step is None or domain.high == domain.low:
        return None
    count = math.floor((domain.high - domain.low) / domain.step + 1e-8) + 1
    if count > 10_000:
        return None
    return np.array([_place(domain, domain.low + num * domain.step) for num in range(count)])


def _value(domain: FloatRange | IntRange | Choice, place: float) -> Value:
    if isinstance(domain, Choice):
        return domain.choices[round(place)]
    low, high = _forward(domain, domain.low), _forward(domain, domain.high)
    value = low + place * (high - low)
    value = math.exp(value) if domain.log else value
    if domain.step is not None:
        value = domain.low + domain.step * round((value - domain.low) / domain.step)
    value = min(domain.high, max(domain.low, value))
    return int(value) if isinstance(domain, IntRange) else value
