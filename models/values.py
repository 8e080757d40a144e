"""What goes into models and comes out of them: batches, maps, detections, instances.

Shapes: B batch, C channels, H rows, W columns, n instances.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from searcher.renamed import old_names

__all__ = ["Detections", "InstanceMaps", "Prediction", "TensorBatch", "likeliest"]


class TensorBatch(NamedTuple):
    """A batch of images and their instance label maps, on the model's device."""

    images: Tensor
    """uint8[B, H, W, C], 0 to 255, normalised; RGB where C is 3 and nothing else is said."""
    labels: Tensor
    """int32[B, H, W], instance label maps, 0 is background, below 0 not annotated; labels may have gaps."""
    classes: Tensor | None = None
    """int64[B, L], `classes[b, label]` is the class of an object from 1, 0 where nobody knows it; L is above the
    largest label. None where classes are not learned."""


class Prediction(NamedTuple):
    """The instances found in one image: a label map, and a score for each instance."""

    labels: NDArray[np.int32]
    """int32[H, W], 0 is background, instances are 1 to n without gaps."""
    scores: NDArray[np.float32]
    """float32[n], confidence in 0 to 1; `scores[i]` belongs to label `i + 1`."""
    class_probabilities: NDArray[np.float32] | None = None
    """float32[n, K], of each object and class, 0 to 1; None where classes were not learned."""

    @property
    def classes(self) -> NDArray[np.int32] | None:
        """int32[n], the most probable class of each object, 1 to K; None if the model learns no classes."""
        return None if self.class_probabilities is None else likeliest(self.class_probabilities)


class InstanceMaps(NamedTuple):
    """The maps from which the instances of one image are cut: a foreground map, and perhaps a seed map."""

    foreground_map: NDArray[np.float32]
    """float32[H, W], 0 to 1, that a pixel belongs to an instance."""
    seed_map: NDArray[np.float32] | None = None
    """float32[H, W], 0 to 1, high in the middle of instances, low at their borders; None where nothing is known."""
    class_maps: NDArray[np.float32] | None = None
    """float32[K, H, W], 0 to 1, that an object's pixel is of each class; None where classes were not learned."""


class Detections(NamedTuple):
    """The detections of one image, before it is decided to which detection each pixel belongs."""

    size: tuple[int, int]
    """Height and width of the image."""
    boxes: NDArray[np.float32]
    """float32[n, 4], [x1, y1, x2, y2] in pixels between the pixels' edges, 0 <= x1 < x2 <= width."""
    scores: NDArray[np.float32]
    """float32[n], confidence in 0 to 1."""
    masks: NDArray[np.float32]
    """float32[n, M, M], probability that a cell of the box's M x M grid belongs to the instance."""
    class_probabilities: NDArray[np.float32] | None = None
    """float32[n, K], of each class, 0 to 1; None where classes were not learned."""


def likeliest(class_probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the most probable class of each object: int32[n], from 1; the first one if several are equal.

    Args:
        class_probabilities: float32[n, K], K at least 1.
    """
    likely: NDArray[np.int32] = (class_probabilities.argmax(axis=1) + 1).astype(np.int32)
    return likely


__getattr__ = old_names(__name__)
