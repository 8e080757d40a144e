"""How good predictions are, on a set of images: the official metrics, and the poster's."""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.store import Store
from searcher.evaluation import official_metrics
from searcher.evaluation.class_metrics import class_sums, table_of
from searcher.evaluation.glas import poster
from searcher.evaluation.official_metrics import ImageComparison
from searcher.evaluation.summary import ImageMetrics, Summary, summarise
from searcher.inference.predictor import Output, Predictor
from searcher.models.values import Prediction

__all__ = ["Seen", "compare_instances", "measure_images", "measure_split", "see_all"]

_NUM_THREADS = 2
"""Cutting and comparing are numpy's and OpenCV's, which let another thread run."""


@dataclass(frozen=True)
class Seen:
    """The models' output for one image, and the true label map."""

    id: str
    stratum: str
    """Such as the grade; empty where unknown."""
    output: Output
    truth: NDArray[np.int32]
    """int32[H, W], instance label map."""
    seconds: float
    """Time that the models took."""
    classes: NDArray[np.int32] | None = None
    """int32[L], class by label of `truth`, 0 where it is not known; None where classes are not measured."""
    patient: str = ""
    """Whose it is; empty where unknown."""


def see_all(
    predictor: Predictor,
    store: Store,
    indices: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Return the models' output for some images of a store, with the true label maps.

    Args:
        predictor: The predictor with the models.
        store: The store with normalised images and label maps.
        indices: Indices of the images.
        progress: Called with the numbers of finished and of all images.
    """
    seen = []
    for num_done, index in enumerate(indices, start=1):
        truth, sample = np.array(store.labels(index), dtype=np.int32), store.samples[index]
        image = predictor.kind.fitted(
            np.array(store.image(index))
        )  # read from the disk before the clock starts
        started = time.perf_counter()
        output = predictor.see(image)
        seconds = time.perf_counter() - started
        patient = sample.group if sample.group != sample.id else ""
        is_classed = bool(predictor.num_classes and store.class_names)
        seen.append(
            Seen(
                id=sample.id,
                stratum=sample.stratum,
                output=output,
                truth=truth,
                seconds=seconds,
                classes=store.classes(index) if is_classed else None,
                patient=patient,
            )
        )
        if progress is not None:
            progress(num_done, len(indices))
    return seen


def compare_instances(
    predictor: Predictor, seen: Sequence[Seen], *, hausdorff: bool = True, only: Collection[str] | None = None
) -> list[ImageComparison]:
    """Return the comparison of each image's predicted instances with the true ones.

    Args:
        predictor: The predictor; its `postprocess` says how instances are cut.
        seen: The models' output for each image.
        hausdorff: Whether to compute Hausdorff distances; see `compare`.
        only: Names of the plug-ins' metrics of label maps to compute; None for all.
    """

    def compared(each: Seen) -> ImageComparison:
        return official_metrics.compare(
            each.truth, predictor.cut(each.output).labels, hausdorff=hausdorff, only=only
        )

    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="measuring") as pool:
        return list(pool.map(compared, seen))


def measure_split(predictor: Predictor, seen: Sequence[Seen]) -> Summary:
    """Return all metrics of a set of at least one image, with the time that each image took."""
    return summarise(measure_images(predictor, seen))


def measure_images(predictor: Predictor, seen: Sequence[Seen]) -> list[ImageMetrics]:
    """Return all metrics of each image, with the time that the models and post-processing took.

    Args:
        predictor: The predictor; its `postprocess` says how instances are cut.
        seen: The models' output for each image.
    """
    results = []
    for each in seen:
        started = time.perf_counter()
        found = predictor.cut(each.output)
        labels = found.labels
        seconds = each.seconds + time.perf_counter() - started
        results.append(
            ImageMetrics(
                id=each.id,
                stratum=each.stratum,
                patient=each.patient,
                comparison=official_metrics.compare(each.truth, labels),
                poster=poster.compare_as_poster(each.truth, labels),
                seconds=seconds,
                classes=_class_sums(each, found, predictor.num_classes),
            )
        )
    return results


def _class_sums(seen: Seen, found: Prediction, num_classes: int) -> NDArray[np.float64] | None:
    if seen.classes is None:
        return None
    return class_sums(seen.truth, seen.classes, found.labels, table_of(found.classes), num_classes)
