"""Metrics between label maps, for notebooks.

`searcher.metrics.official`: those of the GlaS contest. `searcher.metrics.instances`: AP, PQ and AJI, as for nuclei.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.annotated import where_annotated
from searcher.evaluation.instances import instance_metrics, instance_terms
from searcher.evaluation.label_maps import relabelled
from searcher.evaluation.labelled_objects import LabelledObjects, paired_pixels
from searcher.evaluation.official_metrics import INSTANCE_METRICS, compare, pooled
from searcher.exceptions import UserError

__all__ = ["instances", "official"]

LabelMaps = NDArray[Any] | Sequence[NDArray[Any]]

T = TypeVar("T")


def official(truth: LabelMaps, prediction: LabelMaps, *, relabel: bool = False) -> dict[str, float]:
    """Return the official metrics of the GlaS challenge, of one image or of a set of images together.

    Args:
        truth: integer[H, W], a label map: 0 is background, -1 is not annotated, and all pixels with another number are
            one object. Or a list of label maps, one for each image.
        prediction: The predicted label map, or a list of them in the same order; without -1.
        relabel: Whether each 8-connected piece of a label becomes an object of its own, on both sides; for masks.

    Returns:
        `f1`, `object_dice` and `pixel_dice`, 0 to 1 where 1 is best, and `object_hausdorff` in pixels where 0 is best.
        For several images, counts are summed, and objects are weighted by their area over the whole set. Without any
        object on both sides, the metrics are 1, 1, 1 and 0.

    Raises:
        UserError: A side is no label map, the numbers of maps or their sizes differ, there is no image, nothing of an
            image is annotated, or a prediction has labels below 0.
    """
    found = pooled(_of_each(compare, truth, prediction, relabel=relabel))
    return {name: value for name, value in found.items() if name not in INSTANCE_METRICS}


def instances(truth: LabelMaps, prediction: LabelMaps, *, relabel: bool = False) -> dict[str, float]:
    """Return the instance metrics used for nuclei, of one image or of a set of images together.

    Args:
        truth: See `official`.
        prediction: See `official`.
        relabel: See `official`.

    Returns:
        `ap` (mean over IoU 0.5 to 0.95), `ap50`, `ap75`, `pq`, `dq`, `sq` and `aji`, 0 to 1 where 1 is best. Their
        definitions are in `searcher.evaluation.instances`. For several images, all counts are summed. All are 1 if
        neither side has an object, and 0 if only one has; `sq` is 0 if no pair matches.

    Raises:
        UserError: See `official`.
    """
    sums = np.sum(_of_each(_instance_sums, truth, prediction, relabel=relabel), axis=0)
    return {name: float(value) for name, value in instance_metrics(sums).items()}


def _instance_sums(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
    if truth.shape != prediction.shape:
        raise ValueError(
            f"truth and prediction must have the same shape, got {truth.shape} and {prediction.shape}"
        )
    truth, prediction = where_annotated(truth, prediction)
    objects, found = LabelledObjects(truth), LabelledObjects(prediction)
    return instance_terms(objects, found, paired_pixels(objects, found)).sums


def _of_each(
    compared: Callable[[NDArray[Any], NDArray[Any]], T],
    truth: LabelMaps,
    prediction: LabelMaps,
    *,
    relabel: bool,
) -> list[T]:
    """Return what comparing gives for each image.

    Raises:
        UserError: A side is no label map, sizes differ, or there is no image.
    """
    truths, predictions = _listed("truth", truth), _listed("prediction", prediction)
    if len(truths) != len(predictions) or not truths:
        raise UserError(
            f"prediction: must have as many label maps as truth, and at least one, got {len(predictions)} for "
            f"{len(truths)}; give one of each image"
        )
    results = []
    for number, (glands, found) in enumerate(zip(truths, predictions, strict=True)):
        try:
            if relabel:
                glands, found = relabelled(glands), relabelled(found)
            results.append(compared(glands, found))
        except (ValueError, TypeError) as error:
            raise UserError(f"image {number}: {error}") from error
    return results


def _listed(name: str, maps: LabelMaps) -> list[NDArray[Any]]:
    if isinstance(maps, np.ndarray) and maps.ndim == 2:
        maps = [maps]
    listed = [np.asarray(each) for each in maps]
    for number, each in enumerate(listed):
        if each.ndim != 2 or each.dtype.kind not in "iu":
            raise UserError(
                f"{name}: must be label maps, integer[H, W], got {each.dtype}{list(each.shape)} as number {number}; "
                "convert a mask with mask.astype('int32'), and add relabel=True to number its pieces"
            )
    return listed
