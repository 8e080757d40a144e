"""Settings in pixels against the objects that are trained on: gland settings on nuclei lose half of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.label_evidence import LabelFacts
from searcher.study.config import TrialConfig
from searcher.training.data_defaults import sizes_of, statistics_of

__all__ = ["size_remarks", "taken_sizes"]

_TOLERATED = 0.05
"""Part of the training objects that a setting may lose without a word."""


def taken_sizes(config: TrialConfig, fitted: TrialConfig, facts: Sequence[LabelFacts]) -> list[str]:
    """Return a line with the sizes in pixels that were computed from the training objects; empty if there are none.

    Args:
        config: Configuration of the study; searched parameters have their defaults.
        fitted: The same configuration with sizes, see `fitted_sizes`.
        facts: Counts of the training images' label maps.
    """
    sizes, objects = sizes_of(config, fitted), statistics_of(facts)
    if not sizes or objects is None:
        return []
    num = sum(each.num_labels for each in facts)
    return [
        f"sizes in pixels from {num} training objects (median side {objects.side_px:.0f} px): "
        + ", ".join(f"{key}={value:g}" for key, value in sizes.items())
    ]


def size_remarks(config: TrialConfig, facts: Sequence[LabelFacts]) -> list[str]:
    """Return a line for each setting that would lose over 5% of the training objects, with a value that would not.

    Args:
        config: Configuration of the study; searched parameters have their defaults.
        facts: Counts of the training images' label maps.
    """
    areas = np.array([area for each in facts for area in each.areas], np.int64)
    sides = np.array([min(extent) for each in facts for extent in each.extents], np.int64)
    if not len(areas):
        return []
    settings, model = config.postprocess, config.model
    remarks = [
        _area_remark("postprocess.min_object_area_px", settings.min_object_area_px, areas, "are dropped"),
    ]
    if model.grows_seeds:
        remarks.append(
            _area_remark("postprocess.min_seed_area_px", settings.min_seed_area_px, areas, "have no seed")
        )
    for key in model.border_keys:
        remarks.append(_border_remark(key, getattr(model, key), sides))
    return [remark for remark in remarks if remark is not None]


def _area_remark(key: str, value: int, areas: NDArray[np.int64], what: str) -> str | None:
    share = float((areas < value).mean())
    if share <= _TOLERATED:
        return None
    fitting = int(np.quantile(areas, _TOLERATED, method="lower"))
    return (
        f"{key} must not exceed the objects, got {value} px where {share:.0%} of {len(areas)} training objects are "
        f"smaller than that and {what} (median {np.median(areas):.0f} px); add --set {key}={fitting}"
    )


def _border_remark(key: str, width: int, sides: NDArray[np.int64]) -> str | None:
    """Return a line if the contour of many objects leaves no inside: it takes its width from either side."""
    share = float((sides <= 2 * width).mean())
    if share <= _TOLERATED:
        return None
    fitting = max(1, (int(np.quantile(sides, _TOLERATED, method="lower")) - 1) // 2)
    return (
        f"model.{key} must leave objects an inside, got {width} px where {share:.0%} of {len(sides)} "
        f"training objects are at most {2 * width} px wide; add --set model.{key}={min(fitting, width)}"
    )
