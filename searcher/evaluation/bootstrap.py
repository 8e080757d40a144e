"""Intervals of figures over a set of images, by resampling the images.

Images are drawn, not objects: the glands of one image resemble each other, and an interval over objects would be too
narrow. Percentile bootstrap (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Interval", "interval", "resampled_sums"]

CONFIDENCE = 0.95

Interval = tuple[float | None, float | None]
"""Lower and upper end; None, None where there is none."""

_DRAWN_AT_ONCE = 2**22
"""Numbers of one block of resamples, so that a set of any size fits into memory."""


def resampled_sums(
    sums: NDArray[np.float64], *, num_resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Return the sums over random sets of images, each of n images drawn with replacement (bootstrap).

    Args:
        sums: float64[n, k], the contribution of each image to k sums; at least one image.
        num_resamples: Number R of sets to draw.
        seed: Seed of the draw; equal seeds and equal n draw the same images.

    Returns:
        float64[R, k], the sums of each set.
    """
    assert len(sums)
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(sums))
    blocks = []
    for first in range(0, num_resamples, at_once):
        drawn = rng.integers(len(sums), size=(min(at_once, num_resamples - first), len(sums)))
        # How often each image is drawn for each set; then a product does all sums.
        cells = drawn + len(sums) * np.arange(len(drawn))[:, None]
        times = np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
        blocks.append(times.astype(np.float64) @ sums)
    return np.concatenate(blocks)


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the two ends of the 95% percentile interval of a metric, from its values on resampled sets.

    Args:
        values: float64[R]; NaN, where the metric is undefined for a set, is ignored.

    Returns:
        The lower and the upper end; None and None if no set defines the metric.
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
