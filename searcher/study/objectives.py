"""The metrics a trial reports each epoch, and which way each of them improves."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "OFFICIAL", "Direction", "Objective"]

Direction = Literal["minimize", "maximize"]

METRICS: dict[str, Direction] = {
    "loss": "minimize",
    "pixel_dice": "maximize",
    "object_f1": "maximize",
    "object_dice": "maximize",
    "object_hausdorff": "minimize",
}
"""Direction of every validation metric. Definitions: `searcher.evaluation.metrics`."""

OFFICIAL = {
    "object_f1": "f1",
    "object_dice": "object_dice",
    "object_hausdorff": "object_hausdorff",
    "pixel_dice": "pixel_dice",
}
"""What `searcher.evaluation.metrics` calls those that depend on the instances found."""


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

    def better(self, value: float, than: float) -> bool:
        """Return whether `value` is strictly better than `than`; NaN never is."""
        return value < than if self.direction == "minimize" else value > than
