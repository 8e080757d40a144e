"""What networks that tell classes apart have in common: targets, loss, and an object's class from its pixels.

A class branch predicts the class of each object. It is separate from the head that finds objects: their places do not
depend on it. Its loss is computed on objects with a known class only. So a network without classes has the same other
weights, by the same names.

Shapes: B batch, H rows, W columns, K classes, n instances.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CLASS_BRANCH", "UNKNOWN", "class_loss", "class_targets", "mean_probabilities", "weights_of"]

CLASS_BRANCH = "class_branch."
"""How the names of the branch's weights begin in a model's state dictionary."""
UNKNOWN = -1
"""In targets: background, and objects whose class nobody knows."""


def class_targets(labels: Tensor, classes: Tensor | None) -> Tensor:
    """Return the class of each pixel, from 0 to K - 1; `UNKNOWN` for background and objects without a known class.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background, below 0 not annotated.
        classes: int64[B, L], as `TensorBatch.classes`; None where no class is known.

    Returns:
        int64[B, H, W].
    """
    if classes is None:
        return torch.full_like(labels, UNKNOWN, dtype=torch.int64)
    index = labels.clamp(min=0).flatten(1).long()
    of_pixels = classes.gather(1, index).view(labels.shape)
    return torch.where(labels > 0, of_pixels - 1, UNKNOWN)


def class_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the cross-entropy in nats, as the weighted mean over pixels or objects of known class; 0 if none is known.

    Args:
        logits: float[B, K, H, W] of pixels, or float[n, K] of objects.
        targets: int64[B, H, W] or int64[n], 0 to K - 1 or `UNKNOWN`.
        weights: float32[K], how much each class counts; None where all count alike.
    """
    total = F.cross_entropy(logits.float(), targets, weight=weights, ignore_index=UNKNOWN, reduction="sum")
    is_known = (targets >= 0).float()
    counted = is_known if weights is None else is_known * weights[targets.clamp(min=0)]
    return total / counted.sum().clamp(min=1e-8)


def weights_of(class_weights: Sequence[float]) -> Tensor | None:
    """Return the weights of classes as a tensor float32[K]; None for an empty sequence, where all count the same.

    Args:
        class_weights: One weight for each of the K classes, or nothing.
    """
    return torch.tensor(class_weights, dtype=torch.float32) if len(class_weights) else None


def mean_probabilities(
    labels: NDArray[np.int32], class_maps: NDArray[np.float32], num_instances: int
) -> NDArray[np.float32]:
    """Return the probabilities of each instance's class: float32[n, K], the means over the pixels of the instance.

    Args:
        labels: int32[H, W], instance label map with labels 1 to n, each on at least one pixel.
        class_maps: float32[K, H, W], probability of each class in each pixel.
        num_instances: Number of instances, n.
    """
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    owner = flat[inside] - 1
    areas = np.bincount(owner, minlength=num_instances)
    sums = [np.bincount(owner, of_class.ravel()[inside], num_instances) for of_class in class_maps]
    means: NDArray[np.float32] = (np.stack(sums, axis=1) / areas[:, None]).astype(np.float32)
    return means
