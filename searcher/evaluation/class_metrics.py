"""The metrics of classes: whether objects are found, and as what they are.

A true and a predicted object are a pair where their IoU is above 0.5, as in `searcher.evaluation.instances`. Objects of
known class alone count: a predicted object with more than half of its pixels on objects of unknown class is neither
right nor wrong. For a class c over a set of images, with TP pairs of which both objects are of c, n true and m
predicted objects of c:

- F1 = 2 TP / (n + m).
- PQ = F1 x the mean IoU of these pairs. mPQ is the mean over the classes that occur. Pooled over all images so, it is
  the mPQ+ of CoNIC (Graham et al. 2024, arXiv 2303.06274), and not PanNuke's mean over images.
- accuracy: of all pairs, the part whose objects are of the same class.

Every figure is made from sums over images, so that sets of images can be pooled and drawn again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.annotated import where_annotated
from searcher.evaluation.bootstrap import Interval
from searcher.evaluation.labelled_objects import IntArray, LabelledObjects, paired_pixels

__all__ = ["ClassSummary", "class_metrics", "class_sums", "confusion", "table_of"]


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """How well a network distinguished the classes of objects on a set of images."""

    names: tuple[str, ...]
    """The K classes."""
    pooled: Mapping[str, float]
    """As `class_metrics` returns them; NaN where a figure is not defined."""
    intervals: Mapping[str, Interval]
    """95% intervals of `pooled`."""
    confusion: NDArray[np.int64]
    """int64[K + 1, K + 1], see `confusion`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as a dictionary that can be written as JSON."""
        return {
            "names": list(self.names),
            "pooled": dict(self.pooled),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "confusion": self.confusion.tolist(),
        }


def table_of(classes: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """Return the classes of objects 1 to n as a table indexed by label: int32[n + 1], 0 for background.

    Args:
        classes: int32[n], as in `Prediction.classes`; must not be None.
    """
    assert classes is not None, "the network learned no classes"
    return np.concatenate([np.zeros(1, np.int32), classes])


def class_sums(
    truth: IntArray,
    truth_classes: NDArray[np.int32],
    prediction: IntArray,
    prediction_classes: NDArray[np.int32],
    num_classes: int,
) -> NDArray[np.float64]:
    """Return one image's contribution to the sums from which `class_metrics` computes its metrics.

    Args:
        truth: integer[H, W], instance label map, 0 is background, below 0 not annotated.
        truth_classes: int32[L], the class of each label from 1 to K, 0 where it is not known.
        prediction: integer[H, W], instance label map, 0 is background.
        prediction_classes: int32[M], the class of each label from 1 to K.
        num_classes: K.

    Returns:
        float64[K * K + 3 K]: pairs by true and predicted class, row by row; the IoU of the pairs of one class, summed,
        by class; true objects by class; predicted objects by class.
    """
    truth, prediction = where_annotated(truth, prediction)
    objects, found = LabelledObjects(truth), LabelledObjects(prediction)
    of_objects, of_found = truth_classes[objects.values], prediction_classes[found.values]
    shared = paired_pixels(objects, found)
    is_unknown = of_objects[shared.of_a] == 0
    on_unknown = np.bincount(shared.of_b[is_unknown], shared.pixels[is_unknown], len(found))
    unions = objects.areas[shared.of_a] + found.areas[shared.of_b] - shared.pixels
    is_pair = (2 * shared.pixels > unions) & ~is_unknown
    true, predicted = of_objects[shared.of_a[is_pair]] - 1, of_found[shared.of_b[is_pair]] - 1
    iou = shared.pixels[is_pair] / unions[is_pair]
    pairs = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    is_right = true == predicted
    ious = np.bincount(true[is_right], iou[is_right], num_classes)
    num_true = np.bincount(of_objects, minlength=num_classes + 1)[1:]
    num_predicted = np.bincount(of_found[2 * on_unknown <= found.areas], minlength=num_classes + 1)[1:]
    return np.concatenate([pairs, ious, num_true, num_predicted]).astype(np.float64)


def class_metrics(sums: NDArray[np.float64], names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of classes for many sets of images at once.

    Args:
        sums: float64[..., K * K + 3 K], `class_sums` summed over the images of each set.
        names: Names of the K classes.

    Returns:
        float64[...] in 0 to 1 by name: `mpq`, `class_accuracy`, `f1/NAME` and `pq/NAME`. F1 and PQ of a class without
        any object on both sides are NaN, and not in `mpq`. `class_accuracy` is 0 where no object of known class is
        found, and NaN where there is none.
    """
    pairs, ious, num_true, num_predicted = _split(sums, len(names))
    right = np.diagonal(pairs, axis1=-2, axis2=-1)
    f1 = _share(2 * right, num_true + num_predicted)
    pq = f1 * np.divide(ious, right, out=np.zeros_like(ious), where=right > 0)
    num_pairs = pairs.sum(axis=(-2, -1))
    occurs = ~np.isnan(pq)
    found = {
        "mpq": _share(np.where(occurs, pq, 0.0).sum(axis=-1), occurs.sum(axis=-1).astype(np.float64)),
        "class_accuracy": np.where(
            num_pairs == 0,
            np.where(num_true.sum(axis=-1) > 0, 0.0, np.nan),
            right.sum(axis=-1) / np.maximum(num_pairs, 1),
        ),
    }
    of_each = [(f"{metric}/{name}", values[..., n]) for n, name in enumerate(names) for metric, values in
               (("f1", f1), ("pq", pq))]  # fmt: skip
    return found | dict(of_each)


def confusion(sums: NDArray[np.float64], num_classes: int) -> NDArray[np.int64]:
    """Return the number of objects by true class (rows) and predicted class (columns): int64[K + 1, K + 1].

    The last column counts true objects that were not found, the last row predicted objects without a true one.

    Args:
        sums: float64[K * K + 3 K], of one set of images.
        num_classes: K.
    """
    pairs, _, num_true, num_predicted = _split(sums, num_classes)
    table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    table[:-1, :-1] = pairs
    table[:-1, -1] = num_true - pairs.sum(axis=1)
    table[-1, :-1] = num_predicted - pairs.sum(axis=0)
    return table


def _split(sums: NDArray[np.float64], num_classes: int) -> tuple[NDArray[np.float64], ...]:
    """Return pairs float64[..., K, K], and IoU, true and predicted objects float64[..., K]."""
    square = num_classes**2
    pairs = sums[..., :square].reshape(*sums.shape[:-1], num_classes, num_classes)
    return (pairs, *np.split(sums[..., square:], 3, axis=-1))


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
