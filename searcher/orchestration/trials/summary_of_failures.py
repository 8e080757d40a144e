"""What trials that failed one after the other have in common."""

import re
from collections.abc import Mapping, Sequence

from searcher.study.space import Value

__all__ = ["summary_of_failures"]

_VARYING = re.compile(r"\b[0-9a-f]{12,}\b|[-+]?\d+(\.\d+)*([eE][-+]?\d+)?|\b(nan|inf)\b")
"""Numbers, addresses and identifiers: what differs from one trial to the next for the same reason."""


def summary_of_failures(failures: Sequence[tuple[Mapping[str, Value], str]]) -> str:
    """Return a line that says what failed trials have in common: the reason, and parameters of equal value.

    Numbers and ids in the reasons are ignored when they are compared.

    Args:
        failures: Parameters and reason of at least one failed trial.
    """
    kinds = {_VARYING.sub("#", reason): reason for _, reason in reversed(failures)}  # the first of each kind
    reasons = [*kinds.values()][::-1]
    why = (
        f"each time: {reasons[0]}"
        if len(reasons) == 1
        else f"for {len(reasons)} reasons: {' | '.join(reasons)}"
    )
    first, *others = (params for params, _ in failures)
    shared = [
        f"{name}={value}"
        for name, value in first.items()
        if others and all(name in other and other[name] == value for other in others)
    ]
    return f"{why}; they share {', '.join(shared) if shared else 'no parameter'}"
