"""Tuning the way from a network's output to instances, on images that it was not trained on.

Nothing is trained and the network is not asked again: what it said of the validation images is kept, and cut into
instances in other ways. One setting is changed at a time, the best value of each kept, until nothing improves. The
values are the ones that make a difference by eye; finer ones would fit the validation images' noise.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.settings import PostprocessSettings
from searcher.evaluation.metrics import pooled
from searcher.inference.measuring import Seen, measure
from searcher.inference.predictor import Predictor
from searcher.study.objectives import OFFICIAL, Objective

__all__ = ["CANDIDATES", "Tuned", "agreed", "best_of", "tune_postprocess"]

logger = logging.getLogger(__name__)

CANDIDATES: Mapping[str, tuple[Any, ...]] = {
    "threshold": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "seed_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "min_score": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "max_overlap": (0.2, 0.35, 0.5, 0.65, 0.8),
    "smoothing_sigma_px": (0.0, 1.0, 2.0, 3.0, 4.0),
    "min_seed_area_px": (0, 25, 50, 100, 200, 400),
    "min_object_area_px": (0, 50, 100, 200, 300, 500, 800, 1200),
    "keep_unseeded": (True, False),
}
"""Values that are tried, by setting."""
_MAX_ROUNDS = 4
_LEAST_GAIN = 1e-4
"""A smaller gain is no reason to leave a value: relative, of the metric."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The tuned way to instances, which travels with the checkpoint that it was tuned for."""

    postprocess: PostprocessSettings
    tta: bool
    """Whether the maps were the mean of 8 turned and mirrored versions. Predict likewise: they are smoother."""
    metric: str
    """What was tuned for, one of `METRICS`."""
    value_before: float
    """The metric with the settings as they were trained with, of one view."""
    value: float
    """The metric with the tuned ones. Both on the images that were tuned on: a little better than the truth."""
    num_images: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint holds them."""
        return {**vars(self), "postprocess": self.postprocess.model_dump()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tuned":
        """Return what `to_dict` gave.

        Raises:
            TypeError, ValueError: It gave something else.
        """
        return cls(**{**values, "postprocess": PostprocessSettings.model_validate(values["postprocess"])})


def tune_postprocess(
    predictor: Predictor, seen: Sequence[Seen], objective: Objective, *, tta: bool = False
) -> Tuned:
    """Return the settings that give the best metric on some images, from `predictor.postprocess` on.

    The predictor's settings are the tuned ones afterwards.

    Args:
        predictor: What cuts instances.
        seen: Images that the models were not trained on, at least one.
        objective: What to tune for; `object_dice` where that does not depend on post-processing, as `loss`.
        tta: Whether they were seen with test-time augmentation; for the record.
    """
    if objective.name not in OFFICIAL:
        objective = Objective("object_dice")

    known: dict[PostprocessSettings, float] = {}

    def value_of(settings: PostprocessSettings) -> float:
        if (
            settings not in known
        ):  # the last round, in which nothing improves, has mostly been measured before
            predictor.postprocess = settings
            comparisons = measure(predictor, seen, hausdorff=objective.name == "object_hausdorff")
            known[settings] = float(pooled(comparisons)[OFFICIAL[objective.name]])
        return known[settings]

    best = predictor.postprocess
    best_value = value_before = value_of(best)
    for _ in range(_MAX_ROUNDS):
        start = best
        for key in predictor.postprocess_keys:
            values = {getattr(best, key): best_value}
            for value in CANDIDATES[key]:
                if value not in values:
                    values[value] = value_of(best.model_copy(update={key: value}))
            best, best_value = _step(best, key, values, objective)
        if best == start:
            break
    predictor.postprocess = best
    logger.info(
        "post-processing tuned on %d images: %s %.4f, was %.4f",
        len(seen),
        objective.name,
        best_value,
        value_before,
    )
    return Tuned(
        postprocess=best,
        tta=tta,
        metric=objective.name,
        value_before=value_before,
        value=best_value,
        num_images=len(seen),
    )


def best_of(tunings: Sequence[Tuned]) -> Tuned:
    """Return the tuning with the best value, the first of equals, with what the first began from.

    Args:
        tunings: Of the same network, images and metric; first the one that looks at one view.
    """
    best = min(tunings, key=lambda each: Objective(each.metric).cost(each.value))
    return replace(best, value_before=tunings[0].value_before)


def agreed(settings: Sequence[PostprocessSettings]) -> PostprocessSettings:
    """Return what the members of an ensemble, each tuned on its own images, agree on: the median of each setting.

    Args:
        settings: One for each member, at least one. Of an even number, the lower of the two in the middle counts.
    """
    fields = PostprocessSettings.model_fields
    middle = (len(settings) - 1) // 2
    return PostprocessSettings(
        **{key: sorted(getattr(each, key) for each in settings)[middle] for key in fields}
    )


def _step(
    settings: PostprocessSettings, key: str, values: Mapping[Any, float], objective: Objective
) -> tuple[PostprocessSettings, float]:
    """Return the settings with the best value of one key, and the metric; as they are if the gain is too small.

    Of values that are equally good the middle one is taken: it is the farthest from where it gets worse.
    """
    current = getattr(settings, key)
    least = abs(values[current]) * _LEAST_GAIN
    costs = {value: objective.cost(metric) for value, metric in values.items()}
    tied = sorted(value for value, cost in costs.items() if cost <= min(costs.values()) + least)
    winner = tied[(len(tied) - 1) // 2]
    if costs[current] - costs[winner] <= least:
        return settings, values[current]
    return settings.model_copy(update={key: winner}), values[winner]
