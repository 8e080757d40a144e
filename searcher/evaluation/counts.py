"""How well objects are counted, without regard to their shapes: the numbers of true and predicted objects of each
image."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_metrics", "count_sums"]


def count_sums(num_true: Sequence[int], num_predicted: Sequence[int]) -> NDArray[np.float64]:
    """Return the contribution of each image to the sums of `count_metrics`, float64[n, 7]."""
    true, predicted = np.array(num_true, np.float64), np.array(num_predicted, np.float64)
    larger = np.maximum(true, predicted)
    ratio = np.divide(np.minimum(true, predicted), larger, out=np.ones_like(larger), where=larger > 0)
    error = predicted - true
    return np.stack([np.ones_like(true), ratio, np.abs(error), error, error**2, true, true**2], axis=1)


def count_metrics(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return metrics of the predicted numbers p of objects against the true numbers t, for many sets of images.

    Args:
        sums: float64[..., 7], `count_sums` summed over the images of each set.

    Returns:
        float64[...] by name: `ratio`: mean of min(p, t) / max(p, t), 1 is best. It is the poster's Count, but with
        instances as labelled. An image without objects on both sides counts as 1. `mae`: mean of |p - t|, objects.
        `bias`: mean of p - t, objects; above 0 where too many are found. `r2`: 1 - sum (p - t)^2 / sum (t - mean t)^2,
        the coefficient of determination of p as an estimate of t, below 0 where the mean of t would estimate better.
        NaN where all t are equal, as with one image.
    """
    num, ratio, absolute, error, squared, true, true_squared = np.moveaxis(sums, -1, 0)
    spread = (
        num * true_squared - true**2
    )  # n times the sum of squared deviations, in whole numbers: 0 is exact
    r2 = np.full(num.shape, math.nan)
    np.divide(num * squared, spread, out=r2, where=spread > 0)
    return {"ratio": ratio / num, "mae": absolute / num, "bias": error / num, "r2": 1 - r2}
