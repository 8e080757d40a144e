"""Which of several candidates is the best when each was trained again several times."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from searcher.parts import Section
from searcher.study.objectives import Objective

__all__ = ["CANDIDATE", "Candidate", "Standing", "ranking", "standings"]

CANDIDATE = "parent.trial"
"""The parameter of a rerank that says which of the parent's trials is trained again."""


class Candidate(Section):
    """A trial of the parent study that is trained again."""

    trial: int
    """Its number."""
    value: float
    """The objective that it had in the search."""
    params: dict[str, bool | int | float | str]
    """What it was trained with."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The result of a candidate: its value in the search, and its values when it was trained again."""

    trial: int
    """Number of the parent's trial."""
    search_value: float
    """The objective that it had in the search, which has chosen it: with a luck that does not come again."""
    values: tuple[float, ...]
    """The objective of each new run that is COMPLETE."""
    mean: float | None
    """None before the first."""
    half_width: float | None
    """Of the 95% confidence interval of the mean (Student's t); None with fewer than two runs."""

    @property
    def drop(self) -> float | None:
        """The value in the search minus the mean of the new values; None without new values."""
        return None if self.mean is None else self.search_value - self.mean

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"drop": self.drop}


def ranking(values: Mapping[int, Sequence[float]], objective: Objective) -> list[int]:
    """Return the candidates with values, the best mean first; candidates with fewer runs than others come last.

    A missing run may have failed because it was a bad one; without it the mean is too good. Of equal candidates, the
    one with the lower number comes first.
    """
    most = max(map(len, values.values()), default=0)
    means = {number: objective.cost(statistics.fmean(runs)) for number, runs in values.items() if runs}
    return sorted(means, key=lambda number: (len(values[number]) < most, means[number], number))


def standings(
    candidates: "Sequence[Candidate]", values: Mapping[int, Sequence[float]], objective: Objective
) -> list[Standing]:
    """Return the results of all candidates in the order of `ranking`; candidates without any run come last.

    Args:
        candidates: The candidates.
        values: The objective of each COMPLETE run, by candidate.
        objective: The study's objective.
    """
    order = ranking(values, objective)
    found = [
        Standing(
            trial=candidate.trial,
            search_value=candidate.value,
            values=(runs := tuple(values.get(candidate.trial, ()))),
            mean=statistics.fmean(runs) if runs else None,
            half_width=_half_width(runs),
        )
        for candidate in candidates
    ]
    return sorted(found, key=lambda each: order.index(each.trial) if each.trial in order else len(order))


def _half_width(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    from scipy.stats import t  # half a second to import

    quantile = float(t.ppf(0.975, df=len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
