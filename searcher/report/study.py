"""What the pictures of a study show, worked out once for all ways of drawing it.

Optuna has such pictures, too. They leave pruned trials out, name no best trial, know importances of their own, and stay
empty where a study has little to show; these are made from the trials as the ledger has them, with the importances that
`searcher refine` prints.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from searcher.report.words import metric_words
from searcher.study.objectives import Direction, pareto_front
from searcher.study.space import Choice, Domain, FloatRange, IntRange, SearchSpace, Value

__all__ = [
    "ABSENT",
    "BEST_COLOUR",
    "COMPLETE_COLOUR",
    "OTHER_COLOUR",
    "PRUNED_COLOUR",
    "Axis",
    "Lines",
    "StudyPicture",
    "TriedTrial",
    "colour_of",
    "parallel_axes",
    "running_best",
]

ABSENT = -0.14
"""Where a trial passes the axis of a parameter that it does not have; the axis itself reaches from 0 to 1."""
COMPLETE_COLOUR, PRUNED_COLOUR, BEST_COLOUR, OTHER_COLOUR = "#0072b2", "#9a9a9a", "#d55e00", "#56b4e9"
"""Of Okabe and Ito's palette, which colour-blind readers tell apart; `OTHER_COLOUR` is that of many lines."""
_MOST_TICKS = 6
_LABEL_LENGTH = 14


@dataclass(frozen=True, kw_only=True)
class TriedTrial:
    """A trial in the pictures of a study."""

    number: int
    state: str
    """COMPLETE, PRUNED, FAIL or RUNNING."""
    params: Mapping[str, Value]
    value: float | None
    """The objective: of the best epoch of a COMPLETE trial, of the last of a PRUNED one."""
    values: Sequence[float]
    """All objectives of a COMPLETE trial; else empty."""
    curve: Mapping[int, float]
    """The objective by epoch, counted from 1; finite."""


@dataclass(frozen=True, kw_only=True)
class StudyPicture:
    """The data that the pictures of a study show."""

    name: str
    objectives: Sequence[str]
    """Names of the metrics, the one that prunes first."""
    directions: Sequence[Direction]
    """Whether larger or smaller values of each are better."""
    space: SearchSpace
    trials: Sequence[TriedTrial]
    """By number."""
    best: int | None
    """Number of the best trial, None before there is one."""
    importances: Mapping[str, float]
    """Share of each parameter in what makes a trial good; empty where nobody can tell."""

    @property
    def objective(self) -> str:
        """Name of the first objective in words."""
        return metric_words(self.objectives[0])

    @property
    def complete(self) -> list[TriedTrial]:
        """The COMPLETE trials with a value."""
        return [each for each in self.trials if each.state == "COMPLETE" and each.value is not None]

    @property
    def pruned(self) -> list[TriedTrial]:
        """The PRUNED trials with a value, which is that of their last epoch."""
        return [each for each in self.trials if each.state == "PRUNED" and each.value is not None]

    @property
    def title(self) -> str:
        """Name of the study, and the summary."""
        return f"{self.name}: {self.summary}"

    @property
    def summary(self) -> str:
        """A line with the number of trials in each state, and the best value."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[trial.state] = counts.get(trial.state, 0) + 1
        parts = [f"{count} {state}" for state, count in sorted(counts.items())] or ["no trial yet"]
        value = next((each.value for each in self.trials if each.number == self.best), None)
        if value is not None:
            parts.append(f"best {self.objective} {value:.4g} (trial {self.best})")
        return ", ".join(parts)

    @property
    def front(self) -> list[TriedTrial]:
        """The COMPLETE trials that no other trial beats in all objectives, ordered by the first objective."""
        complete = [each for each in self.complete if len(each.values) == len(self.directions)]
        found = [complete[n] for n in pareto_front([each.values for each in complete], self.directions)]
        return sorted(found, key=lambda each: each.values[0])

    @property
    def panels(self) -> dict[str, str | None]:
        """The titles of the pictures; for each, None, or the sentence shown instead if there is nothing to draw."""
        panels = {
            "Optimisation history": self._no_history,
            "Parameter importances": self._no_importances,
            "Parallel coordinates": self._no_parallel,
            "Learning curves": None
            if any(each.curve for each in self.trials)
            else "No epoch was reported yet.",
        }
        if len(self.objectives) > 1:
            panels["Compromises between the objectives"] = None if self.front else "No trial is COMPLETE yet."
        return panels

    @property
    def _no_history(self) -> str | None:
        return None if self.complete or self.pruned else "No trial has a value yet."

    @property
    def _no_importances(self) -> str | None:
        if not self.space.parameters:
            return "This study searched nothing."
        if self.importances:
            return None
        return (
            f"Importances need 8 COMPLETE trials that have a parameter; this study has {len(self.complete)}."
        )

    @property
    def _no_parallel(self) -> str | None:
        if self._no_history:
            return self._no_history
        return None if any(each.params for each in self.trials) else "This study searched nothing."


def colour_of(goodness: float) -> str:
    """Return the colour of a trial, from 0 for the worst to 1 for the best, as hexadecimal text.

    The colours are from cividis, made for colour-blind readers, without its ends, which fade on dark and on white
    paper.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["cividis"](0.35 + 0.55 * goodness))


def running_best(picture: StudyPicture) -> list[tuple[int, float]]:
    """Return, for each COMPLETE trial in the order of numbers, its number and the best value so far."""
    better: Callable[[float, float], float] = max if picture.directions[0] == "maximize" else min
    best: list[tuple[int, float]] = []
    for trial in picture.complete:
        assert trial.value is not None
        best.append((trial.number, better(best[-1][1], trial.value) if best else trial.value))
    return best


@dataclass(frozen=True)
class Axis:
    """One of several parallel axes; positions on it are from 0 to 1."""

    name: str
    ticks: Sequence[tuple[float, str]]
    positions: Mapping[int, float]
    """Where a trial passes, by its number; `ABSENT` if it lacks the parameter."""


@dataclass(frozen=True)
class Lines:
    """The axes of a parallel-coordinates plot: one for each parameter, then one for each objective."""

    axes: Sequence[Axis]
    trials: Sequence[TriedTrial]
    """Those that are drawn, in the order of drawing: pruned ones below, the best on top."""
    goodness: Mapping[int, float]
    """Of the COMPLETE trials by number, from the worst, 0, to the best, 1."""


def parallel_axes(picture: StudyPicture) -> Lines:
    """Return the axes of the parallel-coordinates plot, and the trials' positions on them."""
    values = {
        each.number: each.value for each in (*picture.pruned, *picture.complete) if each.value is not None
    }
    complete = [values[each.number] for each in picture.complete]
    low, high = (min(complete), max(complete)) if complete else (0.0, 0.0)
    sign = 1 if picture.directions[0] == "maximize" else -1
    goodness = {
        each.number: _share(sign * values[each.number], *sorted((sign * low, sign * high)))
        for each in picture.complete
    }
    trials = [
        *picture.pruned,
        *sorted(picture.complete, key=lambda each: (each.number == picture.best, goodness[each.number])),
    ]
    numbers = [each.number for each in trials]
    names = [parameter.name for parameter in picture.space.parameters]
    names += sorted({name for each in trials for name in each.params} - set(names))
    axes = []
    for name in names:
        found = {each.number: each.params[name] for each in trials if name in each.params}
        if found:
            domain = picture.space[name].domain if name in picture.space else None
            axes.append(_axis(name, domain, found, numbers, absence="not used"))
    for number, objective in enumerate(picture.objectives):
        reached = {
            each.number: each.values[number] if number < len(each.values) else values[each.number]
            for each in trials
            if number < len(each.values) or number == 0
        }
        if reached:
            axes.append(_axis(metric_words(objective), None, reached, numbers, absence="no value"))
    return Lines(axes, trials, goodness)


def _axis(
    name: str, domain: Domain | None, found: Mapping[int, Value], numbers: Sequence[int], *, absence: str
) -> Axis:
    """Return an axis.

    Args:
        name: Of the axis.
        domain: What the parameter can be, None where only the values are known.
        found: The trials' values, by number; at least one.
        numbers: All trials that are drawn.
        absence: What to call the place of those without a value.
    """
    is_number = all(isinstance(each, int | float) and not isinstance(each, bool) for each in found.values())
    if isinstance(domain, Choice) or not is_number:
        ticks, places = _choices(domain.choices if isinstance(domain, Choice) else (), found)
    else:
        ticks, places = _numbers(domain, {number: float(value) for number, value in found.items()})
    lacking = [number for number in numbers if number not in places]
    if lacking:
        ticks = [*ticks, (ABSENT, absence)]
    return Axis(name, ticks, places | dict.fromkeys(lacking, ABSENT))


def _choices(
    choices: Sequence[Value], found: Mapping[int, Value]
) -> tuple[list[tuple[float, str]], dict[int, float]]:
    """Return ticks and places on an axis of choices in their order, evenly apart."""
    order = {
        repr(each): str(each) for each in (*choices, *found.values())
    }  # 1, 1.0 and true are three choices
    places = {key: _share(at, 0, len(order) - 1) for at, key in enumerate(order)}
    ticks = [(places[key], _short(text)) for key, text in order.items()]
    return ticks, {number: places[repr(value)] for number, value in found.items()}


def _numbers(
    domain: FloatRange | IntRange | None, found: Mapping[int, float]
) -> tuple[list[tuple[float, str]], dict[int, float]]:
    """Return ticks and places on an axis of numbers, in the scale that they were sampled in."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    is_log = domain is not None and domain.log
    edges = [*found.values(), *([] if domain is None else [float(domain.low), float(domain.high)])]
    least, most = min(edges), max(edges)
    scale: Callable[[float], float] = math.log if is_log else float
    low, high = scale(least), scale(most)
    locator = LogLocator(numticks=_MOST_TICKS) if is_log else MaxNLocator(nbins=_MOST_TICKS - 1)
    marks = [float(each) for each in locator.tick_values(least, most) if least <= each <= most]
    if len(marks) < 2:  # within one decade, or all equal
        marks = [least, most] if least < most else [least]
    ticks = [(_share(scale(each), low, high), f"{each:.4g}") for each in marks]
    return ticks, {number: _share(scale(value), low, high) for number, value in found.items()}


def _share(value: float, low: float, high: float) -> float:
    """Return where a value lies between two others, the middle if they are equal."""
    return 0.5 if high == low else (value - low) / (high - low)


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"
