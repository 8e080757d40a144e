"""The official metrics of the GlaS contest between label maps, for notebooks: `searcher.metrics.official`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.label_maps import relabelled
from searcher.evaluation.metrics import compare, pooled
from searcher.exceptions import UserError

__all__ = ["official"]

LabelMaps = NDArray[Any] | Sequence[NDArray[Any]]


def official(truth: LabelMaps, prediction: LabelMaps, *, relabel: bool = False) -> dict[str, float]:
    """Return the official metrics of one image, or of a set of images together.

    Args:
        truth: integer[H, W], a label map: 0 is background, all pixels of another number are one object. Or a list of
            them, one for each image.
        prediction: The same of what was found, in the same order.
        relabel: Make each 8-connected piece of a label an object of its own, on both sides; for masks.

    Returns:
        `f1`, `object_dice` and `pixel_dice`, 0 to 1 where 1 is best, and `object_hausdorff` in pixels where 0 is best.
        Of several images counts are summed, and objects weighted by their area over the whole set.

    Raises:
        UserError: A side is no label map, sizes differ, or there is no image.
    """
    truths, predictions = _listed("truth", truth), _listed("prediction", prediction)
    if len(truths) != len(predictions) or not truths:
        raise UserError(
            f"prediction: must have as many label maps as truth, and at least one, got {len(predictions)} for "
            f"{len(truths)}; give one of each image"
        )
    compared = []
    for number, (glands, found) in enumerate(zip(truths, predictions, strict=True)):
        try:
            if relabel:
                glands, found = relabelled(glands), relabelled(found)
            compared.append(compare(glands, found))
        except (ValueError, TypeError) as error:
            raise UserError(f"image {number}: {error}") from error
    return pooled(compared)


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
