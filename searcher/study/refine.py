"""From coarse to fine: what is left to search after a broad search.

Only finished trials show where good values are; a pruned trial counts as a try of its choices. The best tenth or so of
them decide, at least five:

- a numeric range becomes their box in the scale that it is sampled in, with a margin of a tenth of the old width on
  both sides; where they crowd an edge of the old range, the new one reaches past it, as far as the value makes sense;
- a choice goes only on evidence: tried often enough, and by none of the best;
- what only matters for a choice that is gone stays as it is, for the trials that look at the whole space.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from searcher.study.config_keys import field_bounds
from searcher.study.objectives import Objective
from searcher.study.space import Choice, Domain, FloatRange, IntRange, Parameter, SearchSpace, Value

__all__ = ["Refined", "Refinement", "Tried", "refine"]

_LEAST_BEST = 5
_BEST_FRACTION = 0.15
_MARGIN = 0.1
"""Of the old width, on each side of the box."""
_CROWD_WIDTH = 0.05
"""Of the old width: what lies so near an edge is at it."""
_CROWD_SHARE = 0.5
"""Part of the best that must be at an edge for the range to reach past it."""
_EXPANSION = 0.25
"""Of the old width: how far past."""
_LEAST_VALUES = 3
"""Fewer of the best with a value are no reason to narrow a range."""
_LEAST_TRIES = 5
"""A choice that was tried less often stays."""
_DIGITS = 3
_TINY = 1e-100


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A COMPLETE or PRUNED trial of the search that is refined; a pruned one has no value."""

    number: int
    params: Mapping[str, Value]
    value: float | None
    """The objective; None for a pruned one, whose value was measured after fewer epochs."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """The change of one parameter's range or choices, and the reason."""

    name: str
    old: Domain
    new: Domain
    reason: str


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """A narrowed search space, with the change of each parameter and the trials that decided."""

    space: SearchSpace
    parameters: tuple[Refined, ...]
    best: tuple[int, ...]
    """Numbers of the trials that decided, best first."""
    num_complete: int


def refine(space: SearchSpace, trials: Sequence[Tried], objective: Objective, *, model: str) -> Refinement:
    """Return a search space narrowed to the region of the best trials.

    Args:
        space: The space that was searched.
        trials: The trials of the search, at least one with a value.
        objective: The study's objective.
        model: Name of the model, which decides how far a range may be widened.
    """
    complete = [trial for trial in trials if trial.value is not None]
    assert complete
    complete.sort(key=lambda trial: (objective.cost(trial.value or 0.0), trial.number))
    num_best = min(len(complete), max(_LEAST_BEST, math.ceil(_BEST_FRACTION * len(complete))))
    best = complete[:num_best]

    refined: list[Refined] = []
    left: dict[str, Domain] = {}
    for parameter in space.parameters:
        if _is_gone(parameter, left):
            conditions = " and ".join(str(condition) for condition in parameter.when)
            new, reason = parameter.domain, f"only where {conditions}, which only explorers try now"
        elif isinstance(parameter.domain, Choice):
            new, reason = _narrow_choice(parameter, parameter.domain, trials, best)
        else:
            new, reason = _narrow_range(parameter, parameter.domain, best, model)
        left[parameter.name] = new
        refined.append(Refined(name=parameter.name, old=parameter.domain, new=new, reason=reason))
    return Refinement(
        space=SearchSpace(
            tuple(replace(each, domain=left[each.name], prior=None) for each in space.parameters)
        ),
        parameters=tuple(refined),
        best=tuple(trial.number for trial in best),
        num_complete=len(complete),
    )


def _is_gone(parameter: Parameter, left: Mapping[str, Domain]) -> bool:
    """Return whether one of the conditions holds for no value that is left of its parameter."""
    return any(
        condition.parent in left
        and not any(left[condition.parent].contains(value) for value in condition.values)
        for condition in parameter.when
    )


def _narrow_choice(
    parameter: Parameter, old: Choice, trials: Sequence[Tried], best: Sequence[Tried]
) -> tuple[Domain, str]:
    def count(of: Sequence[Tried], choice: Value) -> int:
        values = [trial.params[parameter.name] for trial in of if parameter.name in trial.params]
        return sum(value == choice and type(value) is type(choice) for value in values)

    original_range = old.widened().choices
    tries = {choice: count(trials, choice) for choice in original_range}
    wins = {choice: count(best, choice) for choice in original_range}
    gone = [choice for choice in old.choices if not wins[choice] and tries[choice] >= _LEAST_TRIES]
    back = [
        choice for choice in original_range if wins[choice] and not old.contains(choice)
    ]  # explorers' finds
    shown = ", ".join(f"{choice!r} {wins[choice]} of {tries[choice]}" for choice in original_range)
    among = f"among the best {len(best)}: {shown} tries"
    kept = tuple(
        choice for choice in original_range if choice in back or (old.contains(choice) and choice not in gone)
    )
    if not kept or kept == old.choices:
        unproven = [repr(each) for each in old.choices if not wins[each] and tries[each] < _LEAST_TRIES]
        why = f"; too few tries to drop {', '.join(unproven)}" if unproven else ""
        return old, f"{among}{why}"
    changes = [
        f"{verb} {', '.join(map(repr, choices))}"
        for verb, choices in (("dropped", gone), ("taken back", back))
        if choices
    ]
    return Choice(kept, original_range), f"{among}; {'; '.join(changes)}"


def _narrow_range(
    parameter: Parameter, old: FloatRange | IntRange, best: Sequence[Tried], model: str
) -> tuple[Domain, str]:
    values = sorted(
        float(value)
        for trial in best
        if (value := trial.params.get(parameter.name)) is not None and not isinstance(value, str)
    )
    if len(values) < _LEAST_VALUES:
        return (
            old,
            f"only {len(values)} of the best {len(best)} {'has' if len(values) == 1 else 'have'} it: too few",
        )
    forward, back = (math.log, math.exp) if old.log else (float, float)
    edges = forward(old.low), forward(old.high)
    width = edges[1] - edges[0]
    scaled = [forward(value) for value in values]
    box = f"the best {len(values)} lie in {_shown(values[0], old)} .. {_shown(values[-1], old)}"
    safe_low, safe_high = field_bounds(model, parameter.name)
    ends: list[float] = []
    reasons = [box]
    for side, edge, extreme, safe, outward in (
        ("lower", edges[0], scaled[0], safe_low, -1),
        ("upper", edges[1], scaled[-1], safe_high, 1),
    ):
        # At the edge is also what explorers of a range that was narrowed before found beyond it.
        at_edge = sum((value - edge) * outward >= -_CROWD_WIDTH * width for value in scaled)
        if at_edge >= _CROWD_SHARE * len(scaled):
            end = back(max((edge + outward * _EXPANSION * width) * outward, extreme * outward) * outward)
            if safe is not None and (end - safe) * outward > 0:
                # A limit that is itself excluded, as 0 for a rate, is nothing to begin from: the old edge stays.
                end = safe if abs(safe) > _TINY or safe == 0 else back(edge)
            is_beyond = (end - back(edge)) * outward > 1e-12 * abs(end)
            reasons.append(
                f"{at_edge} crowd the {side} edge: {'widened past it' if is_beyond else 'it can go no farther'}"
            )
        else:
            end = back(extreme + outward * _MARGIN * width)
            inner = back(extreme)  # beyond the other edge, perhaps
            end = max(end, min(old.low, inner)) if outward < 0 else min(end, max(old.high, inner))
        ends.append(end)
    new = _fitted(old, ends[0], ends[1], (safe_low, safe_high))
    if (new.low, new.high) == (old.low, old.high):
        return old, f"{box}: nothing to narrow"
    return new, "; ".join(reasons)


def _fitted(
    old: FloatRange | IntRange, low: float, high: float, safe: tuple[float | None, float | None]
) -> FloatRange | IntRange:
    """Return the range with these ends, rounded outwards to its grid or to a few digits, within its original range."""
    was_low, was_high = old.original_range or (old.low, old.high)
    if old.step is not None:
        first = math.floor((low - old.low) / old.step + 1e-9)
        last = math.ceil((high - old.low) / old.step - 1e-9)
        if first == last:
            first, last = first - 1, last + 1
        low, high = old.low + first * old.step, old.low + last * old.step
        while safe[0] is not None and low < safe[0]:
            low += old.step
        while safe[1] is not None and high > safe[1]:
            high -= old.step
        if low >= high:
            return old
    else:
        low, high = _rounded(low, -1, safe[0]), _rounded(high, 1, safe[1])
        if low < old.low and math.isclose(low, old.low, rel_tol=10**-_DIGITS):
            low = old.low
        if high > old.high and math.isclose(high, old.high, rel_tol=10**-_DIGITS):
            high = old.high
    if isinstance(old, IntRange):
        original_range = (min(int(was_low), int(low)), max(int(was_high), int(high)))
        return replace(old, low=int(low), high=int(high), original_range=original_range)
    return replace(old, low=low, high=high, original_range=(min(was_low, low), max(was_high, high)))


def _rounded(value: float, outward: int, safe: float | None) -> float:
    """Return a value with few digits, rounded outward, but not past what is safe."""
    if abs(value) < _TINY:
        return 0.0 if safe is None or safe == 0 else value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - _DIGITS)
    steps = value / unit
    text = f"{(math.floor(steps + 1e-9) if outward < 0 else math.ceil(steps - 1e-9)) * unit:.{_DIGITS}g}"
    rounded = float(text)
    if safe is None:
        return rounded
    return max(rounded, safe) if outward < 0 else min(rounded, safe)


def _shown(value: float, domain: FloatRange | IntRange) -> str:
    return str(int(value)) if isinstance(domain, IntRange) else f"{value:.3g}"
