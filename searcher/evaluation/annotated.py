"""What of a prediction can be judged where a part of the image is not annotated."""

import numpy as np

from searcher.evaluation.labelled_objects import IntArray

__all__ = ["where_annotated"]


def where_annotated(truth: IntArray, prediction: IntArray) -> tuple[IntArray, IntArray]:
    """Return truth and prediction of one image, with the parts removed that cannot be judged.

    Both are returned unchanged if the whole image is annotated. A predicted object is left out if more than half of its
    pixels are not annotated: it is neither right nor wrong. All other objects are cut to the annotated pixels.

    Args:
        truth: integer[H, W], instance label map, 0 is background, below 0 not annotated.
        prediction: integer[H, W], instance label map, 0 is background.

    Returns:
        Both label maps, integer[H, W], 0 where nothing is annotated.

    Raises:
        ValueError: No pixel of the image is annotated.
    """
    if truth.dtype.kind != "i" or not truth.size or truth.min() >= 0:
        return truth, prediction
    is_unknown = truth < 0
    if is_unknown.all():
        raise ValueError(
            "a part of the truth must be annotated, got labels below 0 alone; leave the image out"
        )
    if not np.issubdtype(prediction.dtype, np.integer) or prediction.min() < 0:
        return np.maximum(truth, 0), prediction  # no label map, which the metrics refuse
    values, inverse = np.unique(prediction, return_inverse=True)
    inverse = inverse.reshape(prediction.shape)
    num_all = np.bincount(inverse.ravel(), minlength=len(values))
    num_unknown = np.bincount(inverse[is_unknown], minlength=len(values))
    is_left_out = 2 * num_unknown > num_all
    return np.maximum(truth, 0), np.where(is_unknown | is_left_out[inverse], 0, prediction)
