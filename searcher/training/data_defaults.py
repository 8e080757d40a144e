"""What a configuration leaves to the data: found out from the images that are trained on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from searcher.data_pipeline.annotations import annotation_facts
from searcher.data_pipeline.label_evidence import LabelFacts
from searcher.data_pipeline.store import Store
from searcher.exceptions import UserError
from searcher.models.settings import MAX_CHANNELS, ObjectStatistics
from searcher.models.settings_base import auto_keys, with_sizes
from searcher.study.config import TrialConfig
from searcher.training.class_data import with_classes

__all__ = [
    "fitted_sizes",
    "fitted_to_data",
    "left_to_objects",
    "object_statistics",
    "sizes_of",
    "statistics_of",
    "with_image_channels",
    "with_sizes_of",
]

logger = logging.getLogger(__name__)

_SMALL, _LARGE, _ELONGATED = 0.05, 0.98, 0.8
"""Quantiles, see `ObjectStatistics`."""
_TABLES = ("model", "postprocess")
"""Tables with sizes in pixels that may be left to the data."""


def fitted_to_data(
    config: TrialConfig, store: Store, indices: Sequence[int], resumed: Mapping[str, Any] | None = None
) -> TrialConfig:
    """Return the configuration with the values that it leaves to the data, computed from the images; they are logged.

    The values depend only on the configuration (its split defines the training images) and the data's fingerprint,
    which are both in a checkpoint. So the trial's digest stays that of the sampler's configuration. The checkpoint
    holds the values, with the weights that need them.

    Args:
        config: Configuration from the sampler.
        store: The store with images and label maps.
        indices: Indices of the training images.
        resumed: Configuration in the checkpoint from which the trial resumes; its sizes are kept. None for a new trial.

    Raises:
        UserError: The model is configured for other channels than the images have, or they have too many.
    """
    if resumed is not None:
        config = _with_values(config, {key: _value_in(resumed, key) for key in left_to_objects(config)})
    fitted = _with_objects(with_image_channels(config, store), store, indices)
    with_names = with_classes(fitted, store, indices)
    if with_names is not fitted:
        model = with_names.model
        logger.info(
            "from the classes: %s; weights %s", ", ".join(model.class_names), model.class_weights or "1"
        )
    return with_names


def left_to_objects(config: TrialConfig) -> tuple[str, ...]:
    """Return the dotted keys that are `"auto"`: sizes in pixels that are computed from the objects."""
    return tuple(f"{table}.{key}" for table in _TABLES for key in auto_keys(getattr(config, table)))


def sizes_of(config: TrialConfig, fitted: TrialConfig) -> dict[str, float]:
    """Return the sizes in pixels that were computed from the objects, by dotted key.

    Args:
        config: Configuration from the sampler.
        fitted: The same configuration after `fitted_to_data`.
    """
    return {key: _value_in(vars(fitted), key) for key in left_to_objects(config)}


def with_sizes_of(config: TrialConfig, fitted: TrialConfig) -> TrialConfig:
    """Return a configuration with the computed sizes in pixels, and nothing else filled in; see `sizes_of`."""
    return _with_values(config, sizes_of(config, fitted))


def fitted_sizes(config: TrialConfig, facts: Sequence[LabelFacts]) -> TrialConfig:
    """Return a configuration in which sizes in pixels that are `"auto"` are computed from label maps.

    Args:
        config: Configuration from the sampler, or one with defaults for searched parameters.
        facts: Counts of the training images' label maps.
    """
    return _with_sizes(config, statistics_of(facts))


def _with_sizes(config: TrialConfig, objects: ObjectStatistics | None) -> TrialConfig:
    if not left_to_objects(config):
        return config
    return config.model_copy(update={table: with_sizes(getattr(config, table), objects) for table in _TABLES})


def _with_values(config: TrialConfig, values: Mapping[str, float]) -> TrialConfig:
    for dotted, value in values.items():
        table, _, key = dotted.partition(".")
        section = getattr(config, table).model_copy(update={key: value})
        config = config.model_copy(update={table: section})
    return config


def _value_in(tables: Mapping[str, Any], dotted: str) -> float:
    table, _, key = dotted.partition(".")
    section = tables[table]
    value: float = section[key] if isinstance(section, Mapping) else getattr(section, key)
    return value


def with_image_channels(config: TrialConfig, store: Store) -> TrialConfig:
    """Return a configuration whose model has as many channels as a data set's images.

    Raises:
        UserError: The model is configured for other channels than the images have, or they have too many.
    """
    num, wanted = len(store.channels), config.model.channels
    if num > MAX_CHANNELS:
        raise UserError(
            f"data: images must have at most {MAX_CHANNELS} channels, got {num}; choose those that show what to find"
        )
    if wanted not in (3, num):
        raise UserError(
            f"model.channels: must be left to the data, whose images have {num}, got {wanted}; remove the key"
        )
    if wanted == num:
        return config
    logger.info("from the images: model.channels=%d (%s)", num, ", ".join(store.channels))
    return config.model_copy(update={"model": config.model.model_copy(update={"channels": num})})


def _with_objects(config: TrialConfig, store: Store, indices: Sequence[int]) -> TrialConfig:
    """Return the configuration with what follows from the objects filled in."""
    if not config.model.wants_objects and not left_to_objects(config):
        return config
    objects = object_statistics(store, indices)
    if objects is None:
        logger.warning("no training image holds an object, so what depends on objects keeps its defaults")
        return _with_sizes(config, None)
    fitted = config.model_copy(
        update={
            "model": config.model.with_objects(objects),
            "postprocess": with_sizes(config.postprocess, objects),
        }
    )
    found = [
        f"{key}={now[key]}"
        for table in _TABLES
        for was, now in [(getattr(config, table).model_dump(), getattr(fitted, table).model_dump())]
        for key in now
        if now[key] != was[key]
    ]
    logger.info("from the objects of %d training images: %s", len(indices), ", ".join(found))
    return fitted


def object_statistics(store: Store, indices: Sequence[int]) -> ObjectStatistics | None:
    """Return sizes and numbers of the objects in some images; None if there is no object.

    Args:
        store: The store with the label maps.
        indices: Indices of the images.
    """
    facts = annotation_facts(store)
    return statistics_of([facts[index] for index in indices])


def statistics_of(facts: Sequence[LabelFacts]) -> ObjectStatistics | None:
    """Return sizes and numbers of the objects in label maps; None if there is no object."""
    areas = np.array([area for each in facts for area in each.areas], np.int64)
    if not len(areas):
        return None
    extents = np.array([extent for each in facts for extent in each.extents], np.float64)
    heights, widths = extents.T
    sides = np.sqrt(heights * widths)
    small, median, large = np.quantile(sides, [_SMALL, 0.5, _LARGE])
    elongation = np.maximum(heights / widths, widths / heights)
    return ObjectStatistics(
        small_px=float(small),
        large_px=float(large),
        aspect=float(np.quantile(elongation, _ELONGATED)),
        max_per_image=max(each.num_labels for each in facts),
        small_area_px=int(np.quantile(areas, _SMALL, method="lower")),
        narrow_px=int(np.quantile(extents.min(axis=1), _SMALL, method="lower")),
        side_px=float(median),
    )
