"""The checks of a metric: what validation, tuning and intervals rely on."""

import math

import numpy as np
from numpy.typing import NDArray

from searcher.evaluation.official_metrics import compare, metric_names, pooled
from searcher.study.objectives import METRICS, direction_of, official_name

__all__ = ["check_metric"]


def check_metric(name: str) -> None:
    """Check a registered metric on small label maps: perfect, shifted, partly missed, invented and empty ones.

    Args:
        name: Name of the metric in study files, a key of `searcher.study.objectives.METRICS` except `loss`.

    Raises:
        AssertionError: The metric breaks a rule; the message says which.
        PluginError: There is no such metric, or it raised an error or did not return a number.
    """
    direction = direction_of(name)
    assert METRICS.known(name), f"{name}: must be a metric of label maps, got a cost"
    assert official_name(name) in metric_names(), f"{name}: must be a metric of label maps"
    truth = _discs()
    missed = np.where(truth > 2, 0, truth)
    empty = np.zeros_like(truth)
    perfect = _of(name, (truth, truth))
    assert math.isfinite(perfect), f"{name}: must be finite where both label maps are equal, got {perfect}"
    for what, found in (("half of the objects are missed", missed), ("nothing is found", empty)):
        value = _of(name, (truth, found))
        worse = value > perfect if direction == "minimize" else value < perfect
        assert worse, f"{name}: must be worse than {perfect:g} where {what}, got {value:g}"
    for what, pair in (("invented objects", (empty, truth)), ("empty label maps", (empty, empty))):
        value = _of(name, pair)
        assert not math.isinf(value), (
            f"{name}: must be a number, or NaN where there is none, for {what}, got {value}"
        )
    renamed = np.where(truth > 0, 1000 + truth, 0).astype(np.int32)
    same = _of(name, (renamed, truth))
    assert math.isclose(same, perfect, abs_tol=1e-9), (
        f"{name}: must not depend on the labels' numbers, got {same:g}"
    )
    pairs = [(truth, missed), (truth, truth), (empty, missed)]
    forth, back = _of(name, *pairs), _of(name, *pairs[::-1])
    assert math.isclose(forth, back, abs_tol=1e-9), (
        f"{name}: must not depend on the images' order, got {forth}, {back}"
    )


def _of(name: str, *pairs: tuple[NDArray[np.int32], NDArray[np.int32]]) -> float:
    before = [[side.copy() for side in pair] for pair in pairs]
    value = pooled([compare(*pair) for pair in pairs])[official_name(name)]
    for pair, was in zip(pairs, before, strict=True):
        for side, old in zip(pair, was, strict=True):
            assert np.array_equal(side, old), f"{name}: must not change the label maps that it is given"
    return value


def _discs() -> NDArray[np.int32]:
    """Return int32[60, 60], four discs."""
    rows, columns = np.mgrid[:60, :60]
    labels = np.zeros((60, 60), np.int32)
    for label, (row, column) in enumerate(((14, 14), (14, 44), (44, 14), (44, 44)), start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= 81] = label
    return labels
