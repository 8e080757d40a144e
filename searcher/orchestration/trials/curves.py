"""What a stopped trial would have reached, predicted from the trials that continued.

Chain ladder, as insurers complete open claims: the epochs after which trials were stopped are levels. Between two
levels a trial gains the median gain of the trials that passed both levels. The spread of these gains is its
uncertainty.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["predicted_finals", "running_best"]

Array = NDArray[np.float64]

_RATIO = 1.3
"""Least ratio between two levels."""
_LEAST_PAIRS = 3
"""Fewer trials say nothing about the spread of the gains."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def running_best(curve: Mapping[int, float], num_epochs: int, *, is_whole: bool) -> Array:
    """Return the best value up to each epoch of a trial, float[num_epochs], NaN after the last report.

    Args:
        curve: Value by epoch, from 1; higher is better, values that are not finite are ignored.
        num_epochs: Number of epochs of the longest trial.
        is_whole: Whether the trial finished; then its best value is also used for later epochs.
    """
    found = np.full(num_epochs, np.nan)
    last = 0
    for epoch, value in curve.items():
        if 1 <= epoch <= num_epochs and math.isfinite(value):
            found[epoch - 1] = value
            last = max(last, epoch)
    if last == 0:
        return found
    upto = num_epochs if is_whole else last
    found[:upto] = np.fmax.accumulate(found[:upto])
    return found


def predicted_finals(best: Array) -> tuple[Array, Array]:
    """Return the predicted best value of each trial at the last epoch, and its standard deviation, float[N] each.

    The deviation is 0 for a trial that finished; both are NaN for one without a value.

    Args:
        best: float[N, E], the result of `running_best` for each trial.
    """
    num_epochs = best.shape[1]
    has_value = ~np.isnan(best)
    lengths = np.where(has_value.any(axis=1), num_epochs - has_value[:, ::-1].argmax(axis=1), 0)
    values = np.full(len(best), np.nan)
    ended = lengths > 0
    values[ended] = best[ended, lengths[ended] - 1]
    variances = np.where(ended, 0.0, np.nan)
    levels = _levels(lengths[ended], num_epochs)
    for low, high in pairwise(levels):
        gain, spread = _step(best[:, low - 1], best[:, high - 1])
        # The whole step for a trial that was stopped at its lower level, a part of it for one in between.
        left = np.log(high / np.clip(lengths, low, high)) / math.log(high / low)
        values += np.where(ended, left * gain, 0.0)
        variances += np.where(ended, left * spread**2, 0.0)
    return values, np.sqrt(variances)


def _levels(lengths: NDArray[np.int64], num_epochs: int) -> list[int]:
    """Return epochs to chain, ascending: the first, those after which trials were stopped, the last."""
    levels = [num_epochs]
    for length in sorted(map(int, set(lengths)), reverse=True):
        if length * _RATIO <= levels[-1]:
            levels.append(length)
    if levels[-1] > 1:
        levels.append(1)
    return levels[::-1]


def _step(low: Array, high: Array) -> tuple[float, float]:
    """Return the median gain between two levels and its standard deviation."""
    known = low[~np.isnan(low)]
    scale = float(np.std(known)) if len(known) > 1 else 0.0
    gains = (high - low)[~np.isnan(low) & ~np.isnan(high)]
    middle = float(np.median(gains)) if len(gains) else 0.0
    if len(gains) < _LEAST_PAIRS:
        return middle, 0.5 * scale
    return middle, max(_NORMAL * float(np.median(np.abs(gains - middle))), 0.05 * scale)
