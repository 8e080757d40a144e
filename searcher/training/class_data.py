"""What a configuration leaves to the classes of the data: how many, their names, and how much each counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.store import Store, find_classes
from searcher.study.config import DataConfig, TrialConfig
from searcher.study.spec import StudySpec

__all__ = ["classed", "pinned", "weights_of", "with_class_digest", "with_classes"]

_CAP = 10.0
"""No class counts more than so many times the mean, or less than its inverse."""


def classed(store: Store, data: DataConfig) -> Store:
    """Return a store with the classes that a configuration was made for; the same store if no classes are learned.

    Args:
        store: The store of the data set.
        data: The data settings of the configuration.

    Raises:
        DataError: The store has no classes, or only other ones.
    """
    if not data.learn_classes:
        return store
    wanted = data.class_digest or store.class_table.digest
    if not wanted:
        raise DataError(
            f"{store.path}: data.learn_classes needs the classes of objects, got none; prepare the data set with them, "
            "or set data.learn_classes=false"
        )
    if store.class_table.digest == wanted:
        return store
    table = find_classes(store.path, wanted)
    if table is None:
        raise DataError(
            f"{store.path}: classes must be those that the study began with, {wanted[:12]}, got others; restore what "
            "says the classes, or begin another study"
        )
    return store.with_classes(table)


def with_class_digest(config: TrialConfig, store: Store) -> TrialConfig:
    """Return a configuration with the digest of a store's classes; the same one if no classes are learned.

    Args:
        config: The configuration.
        store: The store.
    """
    if not config.data.learn_classes:
        return config
    data = config.data.model_copy(update={"class_digest": store.class_table.digest})
    return config.model_copy(update={"data": data})


def pinned(spec: StudySpec, store: Store) -> StudySpec:
    """Return a study with the digest of a store's classes as a fixed setting; the same one if no classes are learned.

    The setting is stored with the study, so that later launches use the same classes.

    Args:
        spec: The study.
        store: The store of the data set.
    """
    if not spec.trial_config({}).data.learn_classes:
        return spec
    setting = {"data.class_digest": store.class_table.digest}
    return replace(spec, fixed={**spec.fixed, **setting}, overrides={**spec.overrides, **setting})


def with_classes(config: TrialConfig, store: Store, indices: Sequence[int]) -> TrialConfig:
    """Return a configuration whose model has the classes of the data; the same one if no classes are learned.

    Args:
        config: The configuration, as the sampler chose it.
        store: The store with its classes; see `classed`.
        indices: Indices of the images that are trained on.
    """
    if not config.data.learn_classes:
        return config
    names = store.class_names
    weights = weights_of(store.class_table.counts(indices), config.data.class_weighting)
    found = {"num_classes": len(names), "class_names": names, "class_weights": weights}
    return config.model_copy(update={"model": config.model.model_copy(update=found)})


def weights_of(counts: NDArray[np.int64], power: float) -> tuple[float, ...]:
    """Return the weight of each class in the loss; empty if all weights are equal.

    The weight is count ** -power, scaled to a mean of 1 over all objects, then limited to the range 0.1 to 10.

    Args:
        counts: int64[K], number of objects of each class. A class without objects has weight 1.
        power: Exponent: 0 for equal weights, 1 for weights inversely proportional to the number of objects.
    """
    there = counts > 0
    weights = np.ones(len(counts))
    weights[there] = counts[there] ** -power
    weights[there] /= (weights[there] * counts[there]).sum() / max(1, counts.sum())
    weights = np.clip(weights, 1 / _CAP, _CAP).round(4)
    return () if (weights == weights[:1]).all() else tuple(weights.tolist())
