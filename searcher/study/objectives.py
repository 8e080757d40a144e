"""The metrics a trial reports each epoch, ours and those of plug-ins, and which way each of them improves.

A plug-in's metric is a function of the counts of a set of images, or of one image's label maps:

    @register_metric("object_jaccard", "maximize", of="counts")
    def object_jaccard(counts: Counts) -> float:
        return counts.tp / max(1, counts.tp + counts.fp + counts.fn)

It is reported in every epoch together with ours, and by `searcher evaluate` and `searcher metrics`. A study can use it
as its objective, as a further one, and to tune post-processing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from searcher.plugins import PluginError, Registry

__all__ = [
    "CLASS_METRICS",
    "COSTS",
    "METRICS",
    "OFFICIAL",
    "TUNING_TARGETS",
    "Counts",
    "Direction",
    "Metric",
    "Objective",
    "direction_of",
    "metrics_of_plugins",
    "official_name",
    "pareto_front",
    "register_metric",
]

Direction = Literal["minimize", "maximize"]


class Counts(NamedTuple):
    """The counts, summed over a set of images, from which a metric is computed."""

    tp: float
    """Predicted objects that cover more than half of the true object that they share the most pixels with."""
    fp: float
    """Predicted objects that do not."""
    fn: float
    """True objects that none of them is won for."""
    shared_px: float
    """Pixels of the foreground on both sides."""
    true_px: float
    """Pixels of true objects."""
    predicted_px: float
    """Pixels of predicted objects."""


@dataclass(frozen=True)
class Metric:
    """A metric of a set of images: its direction, and for plug-ins the function that computes it."""

    direction: Direction
    """Whether smaller or larger is better."""
    function: Callable[..., float] | None = None
    """A plug-in's; None for ours, which are worked out together."""
    of: Literal["counts", "maps"] = "counts"
    """`counts`: the function takes `Counts` of the whole set. `maps`: it takes truth and prediction of one image, both
    integer[H, W], instance label maps; the set's figure is the mean over its images, without those that are NaN."""

    def __post_init__(self) -> None:
        # By which a registry finds out whose part it is.
        object.__setattr__(self, "__module__", getattr(self.function, "__module__", None) or __name__)


LOWER, HIGHER = Metric("minimize"), Metric("maximize")

METRICS: Registry[Metric] = Registry(
    "metric",
    key="study.objective",
    built_in={
        "loss": f"{__name__}:LOWER",
        "pixel_dice": f"{__name__}:HIGHER",
        "object_f1": f"{__name__}:HIGHER",
        "object_dice": f"{__name__}:HIGHER",
        "object_hausdorff": f"{__name__}:LOWER",
        "ap50": f"{__name__}:HIGHER",
        "ap": f"{__name__}:HIGHER",
        "pq": f"{__name__}:HIGHER",
        "aji": f"{__name__}:HIGHER",
        "mpq": f"{__name__}:HIGHER",
        "class_accuracy": f"{__name__}:HIGHER",
    },
)
"""Every validation metric. Definitions of ours: `searcher.evaluation.official_metrics`; from `ap50` on,
`searcher.evaluation.instances`."""

CLASS_METRICS = ("mpq", "class_accuracy")
"""Those of ours that there are only where classes are learned; see `searcher.evaluation.class_metrics`."""

COSTS: Registry[Metric] = Registry(
    "cost", key="study.secondary_objectives", built_in={"seconds_per_image": f"{__name__}:LOWER"}
)
"""What a network costs. It is measured, so no two runs agree. It is useful in addition to a metric, not instead of
one."""

OFFICIAL = {
    "object_f1": "f1",
    "object_dice": "object_dice",
    "object_hausdorff": "object_hausdorff",
    "pixel_dice": "pixel_dice",
    "ap50": "ap50",
    "ap": "ap",
    "pq": "pq",
    "aji": "aji",
}
"""What `searcher.evaluation.official_metrics` calls those of ours that depend on the instances found."""

TUNING_TARGETS = (*OFFICIAL, "object_f1+object_dice")
"""The metrics that post-processing can be tuned for, besides those of plug-ins: one of these, or the mean of two that
the contest ranks by. The object Dice weighs by area, and alone says little about small objects that are none."""

_TAKEN = {
    "f1",
    "objective",
    "lr",
    "train_loss",
    "epoch_s",
    "eval_s",
    "train_images_per_s",
    "seconds_per_image",
}
"""Names of other figures of an epoch or of a set of images."""

F = TypeVar("F", bound=Callable[..., Any])


def register_metric(name: str, direction: Direction, *, of: Literal["counts", "maps"]) -> Callable[[F], F]:
    """Return a decorator that registers a function as a metric under a name, for a plug-in.

    The function returns a number, or NaN if the metric is undefined.

    Args:
        name: Name of the metric in study files, tables and databases: letters, digits and underscores.
        direction: Whether to `minimize` or `maximize` the metric.
        of: What the function takes: `counts` or `maps`, see `Metric.of`.

    Raises:
        PluginError: The name is taken or invalid, or the direction is neither.
    """
    if not name.isidentifier() or name in _TAKEN or name.startswith(("loss", "train_loss_")):
        raise PluginError(
            f"metric {name!r}: must have a name of letters, digits and underscores that no other figure has; rename it"
        )
    if direction not in get_args(Direction) or of not in ("counts", "maps"):
        raise PluginError(
            f"metric {name!r}: must say minimize or maximize, and counts or maps, got {direction!r} and {of!r}; "
            "say which"
        )

    def register(function: F) -> F:
        METRICS.register(name, Metric(direction, function, of))
        return function

    return register


def metrics_of_plugins() -> dict[str, Metric]:
    """Return the metrics registered by plug-ins, by name."""
    ours = METRICS.built_in_names()
    return {name: METRICS[name] for name in METRICS.names() if name not in ours}


def official_name(name: str) -> str:
    """Return the name of a metric in `searcher.evaluation.official_metrics`.

    Only the names of the official metrics differ there; plug-ins' metrics have the same name.

    Only the names of the official metrics differ there; plug-ins' metrics have the same name.
    """
    return OFFICIAL.get(name, name)


def direction_of(name: str) -> Direction:
    """Return whether a metric or cost, by name, is to be minimized or maximized."""
    return (COSTS if COSTS.known(name) else METRICS)[name].direction


def pareto_front(points: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points that no other point beats, that is, equals everywhere and exceeds somewhere.

    Args:
        points: The points, one value for each direction; a NaN is beaten by everything.
        directions: For each value, whether it is to be minimized or maximized.
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
    """The metric that a study optimises, with its direction.

    Raises:
        PluginError: There is no such metric.
    """

    name: str
    """One of `METRICS`."""

    def __post_init__(self) -> None:
        METRICS[self.name]  # says in one line that nobody knows it

    @property
    def direction(self) -> Direction:
        """Whether the metric is to be minimized or maximized."""
        return METRICS[self.name].direction

    @property
    def worst(self) -> float:
        """A value that is worse than any finite one: infinity or its negative."""
        return math.inf if self.direction == "minimize" else -math.inf

    def cost(self, value: float) -> float:
        """Return a value with its sign changed if larger is better, so that smaller is better; for sorting."""
        return value if self.direction == "minimize" else -value

    def better(self, value: float, than: float) -> bool:
        """Return whether `value` is strictly better than `than`; NaN never is."""
        return value < than if self.direction == "minimize" else value > than
