"""Which of several candidates is the best when each was trained again several times."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from searcher.study.objectives import Objective
from searcher.study.spec import Candidate

__all__ = ["Standing", "standings"]

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5% quantile of Student's t distribution for 1 to 10 degrees of freedom."""
_Z_975 = 1.96


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a candidate reached when it was trained again."""

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
        """The search's value less the mean."""
        return None if self.mean is None else self.search_value - self.mean

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"drop": self.drop}


def standings(
    candidates: Sequence[Candidate], values: Mapping[int, Sequence[float]], objective: Objective
) -> list[Standing]:
    """Return all candidates, the best mean first, those without any run last.

    Args:
        candidates: What was trained again.
        values: The objective of each COMPLETE run, by candidate.
        objective: Which values are better.
    """
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
    sign = -1 if objective.direction == "maximize" else 1
    return sorted(found, key=lambda each: math.inf if each.mean is None else sign * each.mean)


def _half_width(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    degrees = len(values) - 1
    quantile = _T_975[degrees - 1] if degrees <= len(_T_975) else _Z_975
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
