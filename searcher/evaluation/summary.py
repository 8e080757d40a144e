"""What a method reached on one set of images: all figures that evaluating, measuring and reporting share."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation import official_metrics
from searcher.evaluation.bootstrap import Interval, interval, resampled_sums
from searcher.evaluation.class_metrics import ClassSummary, class_metrics, confusion
from searcher.evaluation.counts import count_metrics, count_sums
from searcher.evaluation.glas import poster
from searcher.evaluation.glas.poster import PosterMetrics
from searcher.evaluation.official_metrics import ImageComparison
from searcher.renamed import old_names

__all__ = ["Estimate", "ImageMetrics", "StratumSummary", "Summary", "summarise"]

_UNKNOWN_STRATUM = "unknown"


@dataclass(frozen=True, kw_only=True)
class ImageMetrics:
    """The measurements of one image: its comparison, poster metrics and time."""

    id: str
    comparison: ImageComparison
    """Prediction against truth, with distances."""
    stratum: str = ""
    """Such as the grade; empty where unknown."""
    patient: str = ""
    """Whose it is; empty where unknown. If all are known, intervals are over patients."""
    poster: PosterMetrics | None = None
    """The poster's own metrics, where they are wanted."""
    seconds: float | None = None
    """Time that predicting took, where it was measured."""
    classes: NDArray[np.float64] | None = None
    """What the image adds to the metrics of classes, see `class_sums`; None where they are not measured."""

    @property
    def num_true(self) -> int:
        """Number of true objects."""
        return len(self.comparison.truth_areas)

    @property
    def num_predicted(self) -> int:
        """Number of predicted objects."""
        return len(self.comparison.prediction_areas)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The official metrics of this image alone."""
        return official_metrics.pooled([self.comparison])


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; each is None if it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class StratumSummary:
    """The official metrics of the images of one stratum."""

    num_images: int
    pooled: Mapping[str, float]
    mean: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All metrics of a method on one set of images, such as test A.

    Intervals are 95% percentile intervals over resampled patients (`searcher.evaluation.bootstrap`). If any patient is
    unknown, all intervals are over images instead. With a single patient, they are (None, None). The keys of `pooled`,
    `mean` and both parts of `intervals` are `official_metrics.metric_names()`.
    """

    images: tuple[ImageMetrics, ...]
    pooled: Mapping[str, float]
    """The official metrics over the whole set, see `official_metrics.pooled`: the primary figures."""
    mean: Mapping[str, float]
    """The same of each image alone, averaged over the images."""
    intervals: Mapping[str, Mapping[str, Interval]]
    """Of `pooled` and of `mean`, by these names."""
    counts: Mapping[str, Estimate]
    """`ratio`, `mae`, `bias` and `r2`, see `searcher.evaluation.counts`."""
    poster: Mapping[str, float] | None
    """Means of the poster's own metrics, only to compare with its table; None unless all images have them."""
    strata: Mapping[str, StratumSummary]
    """By name; empty where no image's stratum is known. Images without one are `unknown` if others have one."""

    classes: ClassSummary | None = None
    """How well classes were told apart; None where they were not measured."""

    @property
    def num_images(self) -> int:
        """Number of images in the set."""
        return len(self.images)

    @property
    def num_patients(self) -> int | None:
        """Number of patients, over whom the intervals are; None if one is unknown: then intervals are over images."""
        return len({image.patient for image in self.images}) if _are_known(self.images) else None

    @property
    def num_touched_by_empty_rule(self) -> int:
        """Number of images without object on one side, to which the contest's definition does not apply."""
        return sum(image.comparison.touched_by_empty_rule for image in self.images)

    @property
    def seconds_per_image(self) -> dict[str, float] | None:
        """Median and mean time of an image in seconds, by name; None unless all images were timed."""
        times = [image.seconds for image in self.images if image.seconds is not None]
        if len(times) < len(self.images):
            return None
        return {"median": statistics.median(times), "mean": statistics.fmean(times)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, in the form that docs/metrics.md shows; NaN and infinity become None."""
        found: dict[str, Any] = {
            "num_images": self.num_images,
            "pooled": dict(self.pooled),
            "mean": dict(self.mean),
            "intervals": {
                how: {name: list(ends) for name, ends in of.items()} for how, of in self.intervals.items()
            },
            "counts": {name: asdict(estimate) for name, estimate in self.counts.items()}
            | {
                "num_true": sum(image.num_true for image in self.images),
                "num_predicted": sum(image.num_predicted for image in self.images),
            },
            "num_touched_by_empty_rule": self.num_touched_by_empty_rule,
        }
        if self.num_patients is not None:
            found["num_patients"] = self.num_patients
        if self.poster is not None:
            found["poster"] = dict(self.poster)
        if self.classes is not None:
            found["classes"] = self.classes.to_dict()
        if self.strata:
            found["strata"] = {name: asdict(stratum) for name, stratum in self.strata.items()}
        if self.seconds_per_image is not None:
            found["seconds_per_image"] = self.seconds_per_image
        found["images"] = [_row(image) for image in self.images]
        plain: dict[str, Any] = _finite(found)
        return plain


def summarise(
    images: Sequence[ImageMetrics],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Summary:
    """Return all metrics of a set of images, with intervals.

    Args:
        images: The measurements of at least one image.
        num_resamples: Number of resampled sets for the intervals.
        seed: Seed of the resampling.
        class_names: Names of the classes, if they are measured; each image then has its `classes`.

    Raises:
        ValueError: There is no image.
    """
    comparisons = [image.comparison for image in images]
    pooled, mean = official_metrics.pooled(comparisons), official_metrics.mean(comparisons)
    sums = np.stack([comparison.sums for comparison in comparisons])
    alone = official_metrics.from_sums(sums)
    counted = count_sums([image.num_true for image in images], [image.num_predicted for image in images])
    of_classes = [image.classes for image in images if class_names and image.classes is not None]
    class_sums = np.stack(of_classes) if of_classes else np.zeros((len(images), 0))
    columns = [
        sums,
        np.stack([alone[name] for name in official_metrics.metric_names()], axis=1),
        counted,
        class_sums,
    ]
    # One draw for all figures, so that they can be compared resample by resample.
    drawn, drawn_images, num_units = _drawn(images, np.concatenate(columns, axis=1), num_resamples, seed)
    ends = np.cumsum([part.shape[1] for part in columns])
    drawn_sums, drawn_alone, drawn_counts, drawn_classes = np.split(drawn, ends[:-1], axis=1)
    means = dict(zip(official_metrics.metric_names(), drawn_alone.T / drawn_images, strict=True))
    count_draws = count_metrics(drawn_counts)
    posters = [image.poster for image in images if image.poster is not None]
    return Summary(
        images=tuple(images),
        pooled=pooled,
        mean=mean,
        intervals={
            "pooled": _intervals(official_metrics.from_sums(drawn_sums), num_units),
            "mean": _intervals(means, num_units),
        },
        counts={
            name: _estimate(float(value), count_draws[name], num_units)
            for name, value in count_metrics(counted.sum(axis=0)).items()
        },
        poster=asdict(poster.mean(posters)) if len(posters) == len(images) else None,
        strata=_strata(images),
        classes=_of_classes(class_sums, drawn_classes, class_names, num_units) if of_classes else None,
    )


def _of_classes(
    sums: NDArray[np.float64], drawn: NDArray[np.float64], names: Sequence[str], num_units: int
) -> ClassSummary:
    total = sums.sum(axis=0)
    return ClassSummary(
        names=tuple(names),
        pooled={name: float(value) for name, value in class_metrics(total, names).items()},
        intervals=_intervals(class_metrics(drawn, names), num_units),
        confusion=confusion(total, len(names)),
    )


def _are_known(images: Sequence[ImageMetrics]) -> bool:
    return all(image.patient for image in images)


def _drawn(
    images: Sequence[ImageMetrics], sums: NDArray[np.float64], num_resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | int, int]:
    """Return the sums of resamples, how many images each has, and how many patients or images there were to draw.

    All images of a drawn patient are in a resample: they resemble one another.

    Args:
        images: At least one.
        sums: float64[n, k], what each image adds.
        num_resamples: How many resamples, R.
        seed: Of the draw.

    Returns:
        float64[R, k]; float64[R], or n where images are drawn; patients, or n.
    """
    if not _are_known(images):
        return resampled_sums(sums, num_resamples=num_resamples, seed=seed), len(images), len(images)
    patients = list(dict.fromkeys(image.patient for image in images))
    of_patients = np.zeros((len(patients), sums.shape[1] + 1))
    number = {patient: index for index, patient in enumerate(patients)}
    for image, row in zip(images, sums, strict=True):
        of_patients[number[image.patient]] += (*row, 1)
    drawn = resampled_sums(of_patients, num_resamples=num_resamples, seed=seed)
    return drawn[:, :-1], drawn[:, -1], len(patients)


def _intervals(draws: Mapping[str, NDArray[np.float64]], num_units: int) -> dict[str, Interval]:
    """Return an interval of each figure; of one image or patient there is none, as it says nothing of the next."""
    return {name: interval(values) if num_units > 1 else (None, None) for name, values in draws.items()}


def _estimate(value: float, draws: NDArray[np.float64], num_units: int) -> Estimate:
    if not math.isfinite(value):
        return Estimate(None, None, None)
    return Estimate(value, *_intervals({"": draws}, num_units)[""])


def _strata(images: Sequence[ImageMetrics]) -> dict[str, StratumSummary]:
    """Return the metrics by stratum, in the order of the names, unknown ones last."""
    names = sorted({image.stratum for image in images}, key=lambda name: (not name, name))
    if names == [""]:
        return {}
    found = {}
    for name in names:
        comparisons = [image.comparison for image in images if image.stratum == name]
        found[name or _UNKNOWN_STRATUM] = StratumSummary(
            num_images=len(comparisons),
            pooled=official_metrics.pooled(comparisons),
            mean=official_metrics.mean(comparisons),
        )
    return found


def _row(image: ImageMetrics) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": image.id,
        "stratum": image.stratum,
        **image.metrics,
        "num_true": image.num_true,
        "num_predicted": image.num_predicted,
    }
    if image.seconds is not None:
        row["seconds"] = image.seconds
    if image.poster is not None:
        row["poster"] = asdict(image.poster)
    return row


def _finite(value: Any) -> Any:
    """Return plain values with None for NaN and infinity, which JSON has no words for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__getattr__ = old_names(__name__)
