"""What a dense network predicts for a pixel: its channels, its losses, and the way back to instances."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.base import Prediction
from models.losses import binary_losses
from models.postprocess import instances_from_probability
from models.settings import PostprocessSettings
from models.targets import foreground

__all__ = ["BinaryHead", "Head", "build_head"]


class Head(ABC):
    """The meaning of a dense network's output channels. Holds no weights.

    Args:
        loss: Which losses to train with; the head knows the names.
    """

    num_channels: int
    """Output channels of the network."""

    def __init__(self, loss: str) -> None:
        self.loss = loss

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, each a float32 scalar.

        Args:
            logits: float[B, num_channels, H, W].
            labels: int32[B, H, W], instance label maps.
        """

    @abstractmethod
    def maps(self, logits: Tensor) -> Tensor:
        """Return float32[B, C, H, W], probabilities.

        Args:
            logits: float[B, num_channels, H, W].
        """

    @abstractmethod
    def instances(self, maps: NDArray[np.float32], settings: PostprocessSettings) -> Prediction:
        """Return the instances of one image.

        Args:
            maps: float32[C, H, W], as `maps` gives them for one image.
            settings: How instances are cut.
        """


class BinaryHead(Head):
    """One logit per pixel: gland or background. Touching glands are one instance."""

    num_channels = 1

    def losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return `bce`, `dice` or both, as asked for."""
        return binary_losses(self.loss, logits, foreground(labels))

    def maps(self, logits: Tensor) -> Tensor:
        """Return float32[B, 1, H, W], the probability of gland."""
        return logits.float().sigmoid()

    def instances(self, maps: NDArray[np.float32], settings: PostprocessSettings) -> Prediction:
        """Return the connected components of the thresholded probability float32[1, H, W]."""
        return instances_from_probability(maps[0], settings)


_HEADS: dict[str, type[Head]] = {"binary": BinaryHead}


def build_head(name: str, loss: str) -> Head:
    """Return the head of that name.

    Raises:
        ValueError: No such head; the message lists the known ones.
    """
    if name not in _HEADS:
        raise ValueError(f"head must be one of {', '.join(_HEADS)}, got {name!r}")
    return _HEADS[name](loss)
