"""What the data pipeline hands out: the same for every model."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["Batch"]


class Batch(NamedTuple):
    """A batch of images and their instance label maps, in memory, ready to be copied to a device.

    The arrays are views of buffers that the stream uses again. They hold this batch only until the next one is
    requested. Copy them (to a device, or with `.copy()`) before that.
    """

    images: Pixels
    """uint8 or uint16[B, H, W, C], as the store has them; RGB for 8 bit colour. B is smaller than the batch size for
    the last batch of an epoch."""
    labels: NDArray[np.int32]
    """int32[B, H, W], 0 is background, -1 not annotated, every other value is one instance of that image."""
    ids: tuple[str, ...]
    """The B samples' ids, in order."""
    classes: tuple[NDArray[np.int32], ...] | None = None
    """The B samples' classes: `classes[b][label]` is the class, from 1, of the object with that label in `labels[b]`; 0
    where it is not known, and for background. None where classes are not learned."""
