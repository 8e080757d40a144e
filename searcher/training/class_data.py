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
    """Return the store with the classes that a configuration was made for; the store itself where none are learned.

    Args:
        store: Of the data set.
        data: Of the configuration.

    Raises:
        DataError: The store has no classes, or others.
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
    """Return a configuration that says of which classes it is; the same where none are learned."""
    if not config.data.learn_classes:
        return config
    data = config.data.model_copy(update={"class_digest": store.class_table.digest})
    return config.model_copy(update={"data": data})


def pinned(spec: StudySpec, store: Store) -> StudySpec:
    """Return a study that says of which classes it is: as a setting, so that it is stored with the study.

    Args:
        spec: The study.
        store: The data set, prepared.
    """
    if not spec.trial_config({}).data.learn_classes:
        return spec
    setting = {"data.class_digest": store.class_table.digest}
    return replace(spec, fixed={**spec.fixed, **setting}, overrides={**spec.overrides, **setting})


def with_classes(config: TrialConfig, store: Store, indices: Sequence[int]) -> TrialConfig:
    """Return the configuration whose model has the classes of the data; the same where none are learned.

    Args:
        config: As the sampler chose it.
        store: With its classes, see `classed`.
        indices: The images that are trained on.
    """
    if not config.data.learn_classes:
        return config
    names = store.class_names
    weights = weights_of(store.class_table.counts(indices), config.data.class_weighting)
    found = {"num_classes": len(names), "class_names": names, "class_weights": weights}
    return config.model_copy(update={"model": config.model.model_copy(update=found)})


def weights_of(counts: NDArray[np.int64], power: float) -> tuple[float, ...]:
    """Return how much each class counts in the loss; empty where all count alike.

    A weight is count ** -power, scaled to a mean of 1 over the objects, then held to 1/10..10.

    Args:
        counts: int64[K], objects of each class. A class without any has the weight 1.
        power: 0 for all alike, 1 for inversely to their frequency.
    """
    there = counts > 0
    weights = np.ones(len(counts))
    weights[there] = counts[there] ** -power
    weights[there] /= (weights[there] * counts[there]).sum() / max(1, counts.sum())
    weights = np.clip(weights, 1 / _CAP, _CAP).round(4)
    return () if (weights == weights[:1]).all() else tuple(weights.tolist())
