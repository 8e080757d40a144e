"""Tuning the way from a network's output to instances, on images that it was not trained on.

Nothing is trained, and the network runs only once: its maps of the validation images are kept and cut into instances
with other settings. One setting is changed at a time, until nothing improves. The candidates differ visibly, and a gain
must be larger than its own standard error over the images. With a dozen images most gains are not, and a setting that
is fitted to their noise makes other patients' images worse. For the same reason the mean of 8 views is kept unless one
view is significantly better. Without any evidence, a mean of predictions is the safer choice.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.official_metrics import from_sums
from searcher.inference.measuring import Seen, compare_instances
from searcher.inference.predictor import Predictor
from searcher.models.settings import PostprocessSettings
from searcher.study.objectives import OFFICIAL, Objective, direction_of, metrics_of_plugins, official_name

__all__ = [
    "CANDIDATES",
    "MeasuredSettings",
    "Tuned",
    "agreed",
    "choose_views",
    "tune_postprocess",
    "tuning_target",
]

logger = logging.getLogger(__name__)

CANDIDATES: Mapping[str, tuple[Any, ...]] = {
    "threshold": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "seed_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "min_score": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "max_overlap": (0.2, 0.35, 0.5, 0.65, 0.8),
    "smoothing_sigma_px": (0.0, 1.0, 2.0, 3.0, 4.0),
    "min_seed_area_px": (0, 25, 50, 100, 200, 400),
    "min_object_area_px": (0, 50, 100, 200, 300, 500, 800, 1200, 1600, 2400),
    "keep_unseeded": (True, False),
}
"""Values that are tried, by setting, where a model has none of its own."""
_MAX_ROUNDS = 4
_LEAST_GAIN = 1e-4
"""A smaller gain is no reason to leave a value, however sure it is: relative, of the metric."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Tuned settings of post-processing, stored in the checkpoint for which they were tuned."""

    postprocess: PostprocessSettings
    tta: bool
    """Whether the maps were the mean of 8 turned and mirrored versions. Predict with the mean of views, whose maps are
    smoother."""
    metric: str
    """What was tuned for, one of `TUNING_TARGETS` or a plug-in's metric."""
    value_before: float
    """The metric with the settings as they were trained with, of one view."""
    value: float
    """The metric with the tuned ones. Both on the images that were tuned on: a little better than the truth."""
    num_images: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {**vars(self), "postprocess": self.postprocess.model_dump()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tuned":
        """Return the tuned settings from the result of `to_dict`.

        Raises:
            TypeError, ValueError: The values are something else.
        """
        tuned = cls(**{**values, "postprocess": PostprocessSettings.model_validate(values["postprocess"])})
        for name in ("value_before", "value"):
            value = getattr(tuned, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"tuned.{name} must be a finite number, got {str(value)[:40]}")
        if type(tuned.num_images) is not int or not 0 <= tuned.num_images < 1 << 53:
            raise ValueError(f"tuned.num_images must be a whole number, got {str(tuned.num_images)[:40]}")
        if type(tuned.tta) is not bool:
            raise ValueError(f"tuned.tta must be true or false, got {str(tuned.tta)[:40]}")
        if not isinstance(tuned.metric, str) or not all(map(str.isidentifier, tuned.metric.split("+"))):
            raise ValueError(f"tuned.metric must be metrics joined by '+', got {str(tuned.metric)[:40]}")
        return tuned


@dataclass(frozen=True)
class MeasuredSettings:
    """The value of a metric on a set of images, with one setting of post-processing."""

    value: float
    cost: float
    """The smaller the better."""
    costs_without: NDArray[np.float64]
    """float64[N]: of the set without each of its images."""

    def error_against(self, other: "MeasuredSettings") -> float:
        """Return the standard error of the difference between two measurements, by the jackknife.

        It is 0 for a single image. Efron and Stein 1981, The jackknife estimate of variance.
        """
        num = len(self.costs_without)
        if num < 2:
            return 0.0
        differences = self.costs_without - other.costs_without
        return float(np.sqrt((num - 1) * np.var(differences)))


def tuning_target(metric: str, objective: Objective) -> str:
    """Return the metric to tune for: one of `TUNING_TARGETS`, or a plug-in's metric.

    Args:
        metric: Name of a metric, or `objective`.
        objective: The study's objective, used for `objective`. If it does not depend on post-processing, like `loss`,
            `object_dice` is used instead.
    """
    if metric != "objective":
        return metric
    if objective.name == "mpq":  # post-processing moves objects, not their classes
        return "pq"
    return objective.name if objective.name in {*OFFICIAL, *metrics_of_plugins()} else "object_dice"


def tune_postprocess(
    predictor: Predictor,
    seen: Sequence[Seen],
    target: str,
    *,
    tta: bool = False,
    on_measured: Callable[[], None] | None = None,
) -> tuple[Tuned, MeasuredSettings]:
    """Return the settings of post-processing with the best metric on some images, and the measured metric.

    The search starts from `predictor.postprocess`, which holds the tuned settings afterwards.

    Args:
        predictor: The predictor that cuts instances.
        seen: The models' output for at least one image on which they were not trained.
        target: Metric to tune for, one of `TUNING_TARGETS` or a plug-in's metric.
        tta: Whether the output is the mean of 8 views; only recorded.
        on_measured: Called after each setting that was measured.
    """
    known: dict[PostprocessSettings, MeasuredSettings] = {}

    def measured(settings: PostprocessSettings) -> MeasuredSettings:
        if (
            settings not in known
        ):  # the last round, in which nothing improves, has mostly been measured before
            predictor.postprocess = settings
            comparisons = compare_instances(
                predictor, seen, hausdorff=target == "object_hausdorff", only=target.split("+")
            )
            known[settings] = _measured(np.array([each.sums for each in comparisons]), target)
            if on_measured is not None:
                on_measured()
        return known[settings]

    best = predictor.postprocess
    before = measured(best)
    candidates = {**CANDIDATES, **predictor.tuning_candidates}
    for _ in range(_MAX_ROUNDS):
        start = best
        for key in predictor.postprocess_keys:
            values = {getattr(best, key), *candidates.get(key, ())}
            best = _step(best, key, {v: measured(best.model_copy(update={key: v})) for v in values})
        if best == start:
            break
    predictor.postprocess = best
    after = measured(best)
    predictor.postprocess = best
    logger.info(
        "post-processing tuned on %d images: %s %.4f, was %.4f", len(seen), target, after.value, before.value
    )
    tuned = Tuned(
        postprocess=best,
        tta=tta,
        metric=target,
        value_before=before.value,
        value=after.value,
        num_images=len(seen),
    )
    return tuned, after


def _measured(sums: NDArray[np.float64], target: str) -> MeasuredSettings:
    """Return the target of a set of images.

    Args:
        sums: float64[N, 25 + 2k], `ImageComparison.sums` of each.
        target: One of `TUNING_TARGETS`, or a plug-in's metric.
    """
    total = sums.sum(axis=0)
    found = from_sums(np.vstack([total, total - sums]))
    names = [official_name(name) for name in target.split("+")]
    values = np.mean([found[name] for name in names], axis=0)
    costs = values if direction_of(target.partition("+")[0]) == "minimize" else -values
    return MeasuredSettings(float(values[0]), float(costs[0]), costs[1:] if len(sums) > 1 else costs[:0])


def choose_views(one: tuple[Tuned, MeasuredSettings], eight: tuple[Tuned, MeasuredSettings]) -> Tuned:
    """Return the tuning for the mean of 8 views, unless that for one view is significantly better.

    Args:
        one: The result of `tune_postprocess` for one view of each image.
        eight: The result for the mean of 8 views, for the same network, images and metric.
    """
    (tuned, measured), (tuned_of_eight, measured_of_eight) = one, eight
    loss = measured_of_eight.cost - measured.cost
    if loss > measured.error_against(measured_of_eight):
        return tuned
    return replace(tuned_of_eight, value_before=tuned.value_before)


def agreed(settings: Sequence[PostprocessSettings]) -> PostprocessSettings:
    """Return the median of each setting over the members of an ensemble, each tuned on its own images.

    Args:
        settings: Settings of each member, at least one. With an even number, the lower of the two middle values is
            used.
    """
    fields = PostprocessSettings.model_fields
    middle = (len(settings) - 1) // 2
    return PostprocessSettings(
        **{key: sorted(getattr(each, key) for each in settings)[middle] for key in fields}
    )


def _step(
    settings: PostprocessSettings, key: str, measured: Mapping[Any, MeasuredSettings]
) -> PostprocessSettings:
    """Return the settings with a better value of one key, or unchanged if the best value is not significantly better.

    Take the middle of the values that are significantly better than the current one and not significantly worse than
    the best. It is the farthest from the values that are worse. (A value with a large variation between images may be
    not significantly worse than the best, and yet no better than the current one.)
    """
    current = measured[getattr(settings, key)]
    best = min(measured.values(), key=lambda each: each.cost)
    least = abs(current.value) * _LEAST_GAIN

    def surely_worse(one: MeasuredSettings, other: MeasuredSettings) -> bool:
        return one.cost - other.cost > max(least, one.error_against(other))

    if not surely_worse(current, best):
        return settings
    better = sorted(
        value
        for value, each in measured.items()
        if surely_worse(current, each) and not surely_worse(each, best)
    )
    return settings.model_copy(update={key: better[(len(better) - 1) // 2]})
