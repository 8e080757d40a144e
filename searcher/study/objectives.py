"""The metrics a trial reports each epoch, and which way each of them improves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COSTS",
    "METRICS",
    "OFFICIAL",
    "TUNING_TARGETS",
    "Direction",
    "Objective",
    "direction_of",
    "pareto_front",
]

Direction = Literal["minimize", "maximize"]

METRICS: dict[str, Direction] = {
    "loss": "minimize",
    "pixel_dice": "maximize",
    "object_f1": "maximize",
    "object_dice": "maximize",
    "object_hausdorff": "minimize",
}
"""Direction of every validation metric. Definitions: `searcher.evaluation.metrics`."""

COSTS: dict[str, Direction] = {"seconds_per_image": "minimize"}
"""Direction of what a network costs. Measured, so no two runs agree; of use beside a metric, not in place of one."""

OFFICIAL = {
    "object_f1": "f1",
    "object_dice": "object_dice",
    "object_hausdorff": "object_hausdorff",
    "pixel_dice": "pixel_dice",
}
"""What `searcher.evaluation.metrics` calls those that depend on the instances found."""

TUNING_TARGETS = (*OFFICIAL, "object_f1+object_dice")
"""What post-processing can be tuned for: one of those, or the mean of two, both of which the contest ranks by. The
object Dice weighs by area, and alone says little about small objects that are none."""


def direction_of(name: str) -> Direction:
    """Return whether larger or smaller values of one of `METRICS` or `COSTS` are better."""
    return (METRICS | COSTS)[name]


def pareto_front(points: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points that no other one beats: as good everywhere, and better somewhere.

    Args:
        points: One value for each direction; a NaN is beaten by everything.
        directions: Whether larger or smaller is better.
    """
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    costs = [
        tuple(
            math.inf if math.isnan(value) else sign * value for sign, value in zip(signs, point, strict=True)
        )
        for point in points
    ]

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    # What beats a point comes before it in this order, and so does one that nothing beats and that beats it too.
    front: list[int] = []
    for n in sorted(range(len(costs)), key=costs.__getitem__):
        if not any(beats(costs[other], costs[n]) for other in front):
            front.append(n)
    return sorted(front)


@dataclass(frozen=True)
class Objective:
    """The metric a study optimises; its direction follows from its name."""

    name: str
    """One of `METRICS`."""

    def __post_init__(self) -> None:
        assert self.name in METRICS, self.name

    @property
    def direction(self) -> Direction:
        """Whether smaller or larger is better."""
        return METRICS[self.name]

    @property
    def worst(self) -> float:
        """A value that any finite one improves on."""
        return math.inf if self.direction == "minimize" else -math.inf

    def cost(self, value: float) -> float:
        """Return the value turned so that smaller is better, for sorting."""
        return value if self.direction == "minimize" else -value

    def better(self, value: float, than: float) -> bool:
        """Return whether `value` is strictly better than `than`; NaN never is."""
        return value < than if self.direction == "minimize" else value > than
