"""What a configuration leaves to the data: found out from the images that are trained on."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from searcher.data_pipeline.store import Store
from searcher.data_pipeline.unannotated import objects_only
from searcher.exceptions import UserError
from searcher.models.settings import MAX_CHANNELS, ObjectStatistics
from searcher.study.config import TrialConfig

__all__ = ["fitted_to_data", "object_statistics", "with_channels"]

logger = logging.getLogger(__name__)

_SMALL, _LARGE, _ELONGATED = 0.05, 0.98, 0.8
"""Quantiles, see `ObjectStatistics`."""


def fitted_to_data(config: TrialConfig, store: Store, indices: Sequence[int]) -> TrialConfig:
    """Return the configuration with the values that its model leaves to the data, and log them.

    The values depend on the configuration (its split defines the training images) and the data's fingerprint. A
    checkpoint has both. So a trial's digest stays that of the configuration that the sampler chose. The values are in
    the checkpoint, with the weights that need them.

    Args:
        config: As the sampler chose it.
        store: Images and label maps.
        indices: Which of them are trained on.

    Raises:
        UserError: The model is to have other channels than the images, or they have too many.
    """
    return _with_objects(with_channels(config, store), store, indices)


def with_channels(config: TrialConfig, store: Store) -> TrialConfig:
    """Return the configuration whose model has the images' channels.

    Raises:
        UserError: The model is to have other channels than the images, or they have too many.
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
    if not config.model.wants_objects:
        return config
    objects = object_statistics(store, indices)
    if objects is None:
        logger.warning("no training image holds an object, so the model keeps its defaults for objects")
        return config
    model = config.model.with_objects(objects)
    was, now = config.model.model_dump(), model.model_dump()
    found = ", ".join(f"{key}={now[key]}" for key in now if now[key] != was[key])
    logger.info("from the objects of %d training images: %s", len(indices), found)
    return config.model_copy(update={"model": model})


def object_statistics(store: Store, indices: Sequence[int]) -> ObjectStatistics | None:
    """Return how large the objects of some images are and how many lie in one; None where there are none.

    Args:
        store: Label maps.
        indices: Which of them.
    """
    extents = [_extents(store.labels(index)) for index in indices]
    heights, widths = np.concatenate(extents).T.astype(np.float64)
    if not len(heights):
        return None
    small, large = np.quantile(np.sqrt(heights * widths), [_SMALL, _LARGE])
    elongation = np.maximum(heights / widths, widths / heights)
    return ObjectStatistics(
        small_px=float(small),
        large_px=float(large),
        aspect=float(np.quantile(elongation, _ELONGATED)),
        max_per_image=max(map(len, extents)),
    )


def _extents(labels: NDArray[np.uint16] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Return height and width of every object's bounding box, int64[n, 2]."""
    values, compact = np.unique(objects_only(labels), return_inverse=True)
    objects = ndimage.find_objects(compact.reshape(labels.shape) + int(values[0] != 0))
    # Only background can come first, and its index is 0, which is no object to SciPy.
    extents = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in objects]
    return np.array(extents, np.int64).reshape(-1, 2)
