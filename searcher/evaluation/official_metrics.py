"""The official metrics of the GlaS contest, pixel Dice, and the metrics of nuclei, between label maps of any method.

Definitions of the official ones: Sirinukunwattana et al. 2016 (arXiv 1603.00275, section 4) and the contest's MATLAB
evaluation; each is written out where it is computed. Both sides are instance label maps at the image's own resolution.
The partner of an object is the object of the other side with which it shares the most pixels, background excluded.
Among equals it is the one with the lowest label.

An image is compared once; `pooled` and `mean` then sum up any set of images, such as test A.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.annotated import where_annotated
from searcher.evaluation.hausdorff import nearest_hausdorff, pair_hausdorff
from searcher.evaluation.instances import NUM_SUMS as NUM_INSTANCE_SUMS
from searcher.evaluation.instances import instance_metrics, instance_terms
from searcher.evaluation.labelled_objects import IntArray, LabelledObjects, Overlaps, paired_pixels, partners
from searcher.plugins import PluginError
from searcher.study.objectives import METRICS as VALIDATION_METRICS
from searcher.study.objectives import Counts, Metric, metrics_of_plugins

__all__ = [
    "INSTANCE_METRICS",
    "METRICS",
    "ImageComparison",
    "ObjectTerms",
    "compare",
    "from_sums",
    "mean",
    "metric_names",
    "pooled",
]

METRICS = ("f1", "object_dice", "object_hausdorff", "pixel_dice")
"""Names of the official metrics, in the order of `metric_names`."""
INSTANCE_METRICS = ("ap50", "ap", "pq", "aji")
"""Names of the metrics of cells and nuclei behind them; see `searcher.evaluation.instances`."""
_NUM_OFFICIAL = 10
"""What the official metrics are made from."""
_NUM_SUMS = _NUM_OFFICIAL + NUM_INSTANCE_SUMS
"""What ours are made from."""


def metric_names() -> tuple[str, ...]:
    """Return the names of the metrics that `pooled`, `mean` and `from_sums` return, in their order."""
    return (*METRICS, *INSTANCE_METRICS, *metrics_of_plugins())


@dataclass(frozen=True, eq=False)
class ObjectTerms:
    """The area, Dice and Hausdorff distance of each of n objects of one side, in the order of their labels."""

    areas: NDArray[np.int64]
    """int64[n], pixels; the objects' weights."""
    dice: NDArray[np.float64]
    """float64[n], 2 |X n Y| / (|X| + |Y|) of the object and its partner, 0 without one."""
    hausdorff: NDArray[np.float64]
    """float64[n], Hausdorff distance in pixels to the partner. Without a partner it is the smallest distance to an
    object of the other side, or the image's diagonal if that side is empty."""


@dataclass(frozen=True, eq=False)
class ImageComparison:
    """The contribution of one image to the metrics, from which those of a set of images are computed."""

    truth: ObjectTerms
    """One term for each true object."""
    prediction: ObjectTerms
    """One term for each predicted object."""
    tp: int
    """Predicted objects that cover more than half of their partner's pixels (strictly: none is won twice)."""
    shared_px: int
    """Pixels that both sides count to an object."""
    instances: NDArray[np.float64]
    """float64[15], what the metrics of cells and nuclei are made from; see `instance_terms`."""
    of_maps: Mapping[str, float] = field(default_factory=dict)
    """Values of plug-ins' metrics of label maps, by name; NaN where the image has none."""

    @property
    def fp(self) -> int:
        """Number of false positives: predicted objects that match no true object."""
        return len(self.prediction.areas) - self.tp

    @property
    def fn(self) -> int:
        """Number of false negatives: true objects that no predicted object matches."""
        return len(self.truth.areas) - self.tp

    @property
    def truth_areas(self) -> NDArray[np.int64]:
        """Area of each true object in pixels, int64[n]."""
        return self.truth.areas

    @property
    def prediction_areas(self) -> NDArray[np.int64]:
        """Area of each predicted object in pixels, int64[m]."""
        return self.prediction.areas

    @property
    def sums(self) -> NDArray[np.float64]:
        """The image's terms for `from_sums`, float64[25 + 2k]; those of a set are the sum over its images.

        In this order: true positives, shared pixels; four terms of the true objects: their number, the sums of area, of
        area x Dice and of area x Hausdorff distance; the same four of the predicted objects; the 15 terms in
        `instances`. Last, for each of k plug-ins' metrics of label maps: its value and 1, or two zeros if the image has
        no value.
        """
        sides = [
            [len(side.areas), side.areas.sum(), side.areas @ side.dice, side.areas @ side.hausdorff]
            for side in (self.truth, self.prediction)
        ]
        found = [self.of_maps.get(name, math.nan) for name in _metrics_of_maps()]
        more = [term for value in found for term in ((0.0, 0.0) if math.isnan(value) else (value, 1.0))]
        official = [self.tp, self.shared_px, *sides[0], *sides[1]]
        return np.array([*official, *self.instances, *more], np.float64)

    @property
    def touched_by_empty_rule(self) -> bool:
        """Whether one side has no object, so that the contest's definition does not apply and ours does.

        If both sides are empty, F1 and Dice are 1 and Hausdorff is 0. If one is empty, F1 and Dice are 0 and Hausdorff
        is the image's diagonal.
        """
        return len(self.truth.areas) == 0 or len(self.prediction.areas) == 0


def compare(
    truth: IntArray, prediction: IntArray, *, hausdorff: bool = True, only: Collection[str] | None = None
) -> ImageComparison:
    """Return the comparison of the predicted label map of one image with the true one.

    An object is all pixels of one label; it is neither split nor joined. Label numbers may be missing.

    Args:
        truth: integer[H, W], instance label map, 0 is background, below 0 not annotated; see `where_annotated`.
        prediction: integer[H, W], instance label map, 0 is background.
        hausdorff: Whether to compute Hausdorff distances, which take most of the time. If not, they and metrics made of
            them are NaN.
        only: Names of the plug-ins' metrics of label maps to compute; None for all.

    Raises:
        PluginError: A plug-in's metric raised an error.
        ValueError: The shapes differ, or a side is no label map (integers of two dimensions, none below 0).
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"truth and prediction must have the same shape, got truth {truth.shape} prediction "
            f"{prediction.shape}; resize the prediction to the image with nearest-neighbour interpolation"
        )
    truth, prediction = where_annotated(truth, prediction)
    glands, found = LabelledObjects(truth), LabelledObjects(prediction)
    pairs = paired_pixels(glands, found)
    of_glands, of_found = partners(pairs, len(glands), len(found))
    h_glands, h_found = np.full(len(glands), math.nan), np.full(len(found), math.nan)
    if hausdorff:
        h_glands, h_found = _hausdorff_terms(glands, found, of_glands, of_found)
    has_partner = of_found.partners >= 0
    won = 2 * of_found.pixels[has_partner] > glands.areas[of_found.partners[has_partner]]
    return ImageComparison(
        truth=ObjectTerms(glands.areas, _dice_terms(glands, found, of_glands), h_glands),
        prediction=ObjectTerms(found.areas, _dice_terms(found, glands, of_found), h_found),
        tp=int(won.sum()),
        shared_px=int(np.count_nonzero((truth != 0) & (prediction != 0))),
        instances=instance_terms(glands, found, pairs).sums,
        of_maps={
            name: _value(name, metric, truth, prediction)
            for name, metric in _metrics_of_maps().items()
            if only is None or name in only
        },
    )


def pooled(comparisons: Sequence[ImageComparison]) -> dict[str, float]:
    """Return the metrics of a set of images: counts are added up, and objects weighted by area over the whole set.

    Args:
        comparisons: The comparisons of at least one image.

    Returns:
        `f1`: 2 TP / (2 TP + FP + FN).
        `object_dice`: Mean of both sides' area-weighted Dice.
        `object_hausdorff`: Mean of both sides' area-weighted Hausdorff distances, in pixels.
        `pixel_dice`: 2 |T n P| / (|T| + |P|) of the foregrounds.

        If one side has no object, the other side's weights count. If both have none, the figures are 1, 1, 0 pixels and
        1. Then `ap50`, `ap`, `pq` and `aji`, and the plug-ins' metrics, NaN where there is none.

    Raises:
        ValueError: There is no image.
    """
    if not comparisons:
        raise ValueError("metrics need at least one compared image, got none")
    found = from_sums(np.sum([comparison.sums for comparison in comparisons], axis=0))
    return {name: float(value) for name, value in found.items()}


def from_sums(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of many sets of images, defined as for `pooled`, by name.

    Args:
        sums: float64[..., 25 + 2k], `ImageComparison.sums` summed over the images of each set.

    Returns:
        float64[...], by the names that `metric_names` returns.
    """
    tp, shared_px, *of_sides = np.moveaxis(sums[..., :_NUM_OFFICIAL], -1, 0)
    num, area, dice, hausdorff = (np.stack(pair) for pair in zip(of_sides[:4], of_sides[4:], strict=True))
    num_sides = (num > 0).sum(axis=0)  # those with objects
    is_empty = num_sides == 0

    def of_both(weighted: NDArray[np.float64], of_nothing: float) -> NDArray[np.float64]:
        means = np.divide(weighted, area, out=np.zeros_like(area), where=area > 0)
        return np.where(is_empty, of_nothing, means.sum(axis=0) / np.maximum(num_sides, 1))

    instances = instance_metrics(sums[..., _NUM_OFFICIAL:_NUM_SUMS])
    num_objects, num_px = num.sum(axis=0), area.sum(axis=0)  # 2 TP + FP + FN: all objects of both sides
    return {
        "f1": np.where(is_empty, 1.0, 2 * tp / np.maximum(num_objects, 1)),
        "object_dice": of_both(dice, 1.0),
        "object_hausdorff": of_both(hausdorff, 0.0),
        "pixel_dice": np.where(is_empty, 1.0, 2 * shared_px / np.maximum(num_px, 1)),
        **{name: instances[name] for name in INSTANCE_METRICS},
        **_of_plugins(sums),
    }


def _of_plugins(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return float64[...] by the names of the plug-ins' metrics."""
    plugged = metrics_of_plugins()
    if not plugged:
        return {}
    tp, shared_px, num_true, true_px, _, _, num_predicted, predicted_px, *_ = np.moveaxis(sums, -1, 0)
    counts = np.stack([tp, num_predicted - tp, num_true - tp, shared_px, true_px, predicted_px], axis=-1)
    found, column = {}, _NUM_SUMS
    for name, metric in plugged.items():
        if metric.of == "maps":
            total, num = sums[..., column], sums[..., column + 1]
            found[name] = np.divide(total, num, out=np.full_like(total, math.nan), where=num > 0)
            column += 2
        else:
            rows = [
                _value(name, metric, Counts(*row)) for row in counts.reshape(-1, counts.shape[-1]).tolist()
            ]
            found[name] = np.array(rows, np.float64).reshape(counts.shape[:-1])
    return found


def _metrics_of_maps() -> dict[str, Metric]:
    return {name: metric for name, metric in metrics_of_plugins().items() if metric.of == "maps"}


def _value(name: str, metric: Metric, *arguments: Any) -> float:
    """Return the value of a plug-in's metric.

    Raises:
        PluginError: It raised something, or said something else than a number.
    """
    assert metric.function is not None
    where = f"{VALIDATION_METRICS.origin(name)}: metric {name!r}"
    try:
        value = metric.function(*arguments)
    except Exception as error:  # a plug-in may raise anything
        raise PluginError(
            f"{where}: must return a number, raised {type(error).__name__}: {' '.join(str(error).split())}; fix it"
        ) from error
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise PluginError(f"{where}: must return a number, got {type(value).__name__}; fix it")
    return float(value)


def mean(comparisons: Sequence[ImageComparison]) -> dict[str, float]:
    """Return the metrics of each image alone, averaged over the images; the same metrics as `pooled`.

    Raises:
        ValueError: There is no image.
    """
    if not comparisons:
        raise ValueError("metrics need at least one compared image, got none")
    each = from_sums(np.stack([comparison.sums for comparison in comparisons]))
    return {name: float(values.mean()) for name, values in each.items()} | {
        name: float(np.mean(defined)) if len(defined := each[name][~np.isnan(each[name])]) else math.nan
        for name in metrics_of_plugins()
    }


def _dice_terms(objects: LabelledObjects, others: LabelledObjects, of: Overlaps) -> NDArray[np.float64]:
    """Return float64[n], the Dice of each object with its partner, 0 without one."""
    dice = np.zeros(len(objects))
    paired = of.partners >= 0
    dice[paired] = 2 * of.pixels[paired] / (objects.areas[paired] + others.areas[of.partners[paired]])
    return dice


def _hausdorff_terms(
    glands: LabelledObjects, found: LabelledObjects, of_glands: Overlaps, of_found: Overlaps
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float64[n] and float64[m], the Hausdorff terms of both sides."""
    if not len(glands) or not len(found):
        diagonal = math.hypot(*glands.shape)
        return np.full(len(glands), diagonal), np.full(len(found), diagonal)
    h_glands, h_found = np.empty(len(glands)), np.empty(len(found))
    paired_glands, lonely_glands = _by_partner(of_glands)
    paired_found, lonely_found = _by_partner(of_found)
    # Most pairs are each other's partners: H is symmetric, so each is measured once.
    pairs, where = np.unique(
        np.concatenate(
            [
                np.stack([paired_glands, of_glands.partners[paired_glands]], axis=1),
                np.stack([of_found.partners[paired_found], paired_found], axis=1),
            ]
        ),
        axis=0,
        return_inverse=True,
    )
    measured = pair_hausdorff(glands, found, pairs)[where.ravel()]
    h_glands[paired_glands], h_found[paired_found] = np.split(measured, [len(paired_glands)])
    h_glands[lonely_glands] = nearest_hausdorff(glands, found, lonely_glands)
    h_found[lonely_found] = nearest_hausdorff(found, glands, lonely_found)
    return h_glands, h_found


def _by_partner(of: Overlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the objects with a partner, and of those without."""
    return np.flatnonzero(of.partners >= 0), np.flatnonzero(of.partners < 0)
