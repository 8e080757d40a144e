"""The instance metrics of cells and nuclei: average precision, panoptic quality, aggregated Jaccard index.

Each is made from sums over images, as the official metrics are (`searcher.evaluation.official_metrics`). IoU is the
intersection over the union of two objects, |X n Y| / |X u Y|. A pair counts at a threshold where its IoU is
above it. From 0.5 on no object is in two such pairs, so nothing need be assigned.

- AP at a threshold: TP / (TP + FP + FN), as the Data Science Bowl 2018, StarDist and Cellpose have it. `ap` is the mean
  over the thresholds 0.5, 0.55, .. 0.95. It needs no scores and is not COCO's.
- PQ (Kirillov et al. 2019, arXiv 1801.00868): DQ x SQ. DQ = TP / (TP + FP / 2 + FN / 2), the F1 at IoU 0.5.
  SQ is the mean IoU of the pairs.
- AJI (Kumar et al. 2017, doi 10.1109/TMI.2017.2677499): each true object is joined with the predicted one of
  largest IoU. AJI is the sum of the intersections, over the sum of the unions and of the predicted objects that were
  never joined.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.labelled_objects import LabelledObjects, PairedPixels

__all__ = ["METRICS", "NUM_SUMS", "InstanceTerms", "instance_metrics", "instance_terms"]

METRICS = ("ap", "ap50", "ap75", "pq", "dq", "sq", "aji")
"""Names of what `instance_metrics` returns, in their order."""
NUM_SUMS = 15
"""What they are made from, see `InstanceTerms.sums`."""
_TWENTIETHS = np.arange(10, 20)
"""The thresholds 0.5 to 0.95 in twentieths, so that comparing whole numbers is exact."""


@dataclass(frozen=True, eq=False)
class InstanceTerms:
    """The contribution of one image to the sums of the instance metrics."""

    sums: NDArray[np.float64]
    """float64[15]: pairs above each of 10 thresholds; the IoU of the pairs above 0.5, summed; intersections and unions
    of AJI; true objects; predicted objects."""


def instance_terms(truth: LabelledObjects, found: LabelledObjects, pairs: PairedPixels) -> InstanceTerms:
    """Return the contribution of one image to the sums of the instance metrics.

    Args:
        truth: The true objects.
        found: The predicted objects.
        pairs: The shared pixels, `paired_pixels(truth, found)`.
    """
    unions = truth.areas[pairs.of_a] + found.areas[pairs.of_b] - pairs.pixels
    num_above = (20 * pairs.pixels[:, None] > unions[:, None] * _TWENTIETHS).sum(axis=0)
    iou = pairs.pixels / np.maximum(unions, 1)
    joined = _best_of_each(pairs.of_a, iou, pairs.of_b)
    intersection = pairs.pixels[joined].sum()
    alone = np.delete(truth.areas, pairs.of_a[joined]).sum()
    unused = np.delete(found.areas, np.unique(pairs.of_b[joined])).sum()
    sum_iou = iou[2 * pairs.pixels > unions].sum()
    union = unions[joined].sum() + alone + unused
    return InstanceTerms(
        np.array([*num_above, sum_iou, intersection, union, len(truth), len(found)], np.float64)
    )


def instance_metrics(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the instance metrics of many sets of images, by name.

    Args:
        sums: float64[..., 15], `InstanceTerms.sums` summed over the images of each set.

    Returns:
        float64[...] in 0..1 by the names in `METRICS`. All are 1 if neither side has an object, and 0 if only one has;
        `sq` is 0 if no pair matches.
    """
    num_above, (sum_iou, intersection, union, num_true, num_found) = (
        sums[..., :10],
        np.moveaxis(sums[..., 10:], -1, 0),
    )
    num = num_true + num_found
    is_empty = num == 0

    def share(of: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(is_empty, 1.0, of / np.maximum(whole, 1))

    precision = np.stack([share(tp, num - tp) for tp in np.moveaxis(num_above, -1, 0)])
    pairs = num_above[..., 0]
    dq, sq = share(2 * pairs, num), share(sum_iou, pairs)
    return {
        "ap": precision.mean(axis=0),
        "ap50": precision[0],
        "ap75": precision[5],
        "pq": dq * sq,
        "dq": dq,
        "sq": sq,
        "aji": share(intersection, union),
    }


def _best_of_each(
    owners: NDArray[np.int64], values: NDArray[np.float64], others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the index of the largest value of each owner; of equals, the one with the lowest other."""
    order = np.lexsort((others, -values, owners))
    _, first = np.unique(owners[order], return_index=True)
    best: NDArray[np.int64] = order[first]
    return best
