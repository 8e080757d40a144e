"""How good predictions are, on a set of images: the official metrics, and the poster's."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.store import Store
from searcher.evaluation import metrics, poster
from searcher.evaluation.metrics import ImageComparison
from searcher.inference.predictor import Output, Predictor

__all__ = ["Seen", "SplitMetrics", "measure", "measure_split", "see_all"]

_NUM_THREADS = 2
"""Cutting and comparing are numpy's and OpenCV's, which let another thread run."""


@dataclass(frozen=True)
class Seen:
    """An image as the models see it, and the truth about it."""

    id: str
    output: Output
    truth: NDArray[np.int32]
    """int32[H, W], instance label map."""


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """What a predictor reaches on one split."""

    num_images: int
    pooled: dict[str, float]
    """The official metrics over the whole set, see `searcher.evaluation.metrics.pooled`: the primary figures."""
    mean: dict[str, float]
    """The same of each image alone, averaged over the images."""
    poster: dict[str, float]
    """The DTU poster's own metrics, see `searcher.evaluation.poster`; only for its table."""
    num_touched_by_empty_rule: int
    """Images with no object on one side, which our rule decides and not the contest's definition."""
    by_image: dict[str, dict[str, float]]
    """The official metrics of each image, by its name."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def see_all(
    predictor: Predictor,
    store: Store,
    indices: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Return what the predictor sees of some images of a store.

    Args:
        predictor: The models.
        store: Images and label maps.
        indices: Which of them.
        progress: Hears how many of how many are done.
    """
    seen = []
    for num_done, index in enumerate(indices, start=1):
        truth = np.array(store.labels(index), dtype=np.int32)
        seen.append(Seen(store.samples[index].id, predictor.see(store.image(index)), truth))
        if progress is not None:
            progress(num_done, len(indices))
    return seen


def measure(predictor: Predictor, seen: Sequence[Seen], *, hausdorff: bool = True) -> list[ImageComparison]:
    """Return the comparison of each image with its truth, instances cut as `predictor.postprocess` says.

    Args:
        predictor: The models.
        seen: What they see of the images.
        hausdorff: Whether distances are wanted; see `compare`.
    """

    def compared(each: Seen) -> ImageComparison:
        return metrics.compare(each.truth, predictor.cut(each.output).labels, hausdorff=hausdorff)

    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="measuring") as pool:
        return list(pool.map(compared, seen))


def measure_split(predictor: Predictor, seen: Sequence[Seen]) -> SplitMetrics:
    """Return all metrics of a set of images, at least one."""
    comparisons, poster_metrics = [], []
    for each in seen:
        labels = predictor.cut(each.output).labels
        comparisons.append(metrics.compare(each.truth, labels))
        poster_metrics.append(poster.compare(each.truth, labels))
    return SplitMetrics(
        num_images=len(seen),
        pooled=metrics.pooled(comparisons),
        mean=metrics.mean(comparisons),
        poster=asdict(poster.mean(poster_metrics)),
        num_touched_by_empty_rule=sum(each.touched_by_empty_rule for each in comparisons),
        by_image={
            each.id: metrics.pooled([comparison]) for each, comparison in zip(seen, comparisons, strict=True)
        },
    )
