"""One logit per pixel."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from searcher.models.heads.head import Head, Targets
from searcher.models.targets import foreground
from searcher.models.values import InstanceMaps

__all__ = ["BinaryHead"]


class BinaryHead(Head):
    """A head with one logit per pixel: gland or background. Touching glands become one instance."""

    num_channels = 1
    postprocess_keys = ("threshold", "smoothing_sigma_px", "min_object_area_px")

    def targets(self, labels: Tensor) -> Targets:
        """Return the foreground of the label maps as training target, with the pixels' weights."""
        return Targets(foreground(labels), self.pixel_weights(labels))

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the foreground that `options.loss` names, by name; see `Head.losses_of`."""
        return self.foreground_losses(logits, targets)

    def maps(self, logits: Tensor) -> Tensor:
        """Return the probability of gland for each pixel, float32[B, 1, H, W], from logits float[B, 1, H, W]."""
        return logits.float().sigmoid()

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the probability of gland as foreground map, from `maps` float32[1, H, W]; there is no seed map."""
        return InstanceMaps(maps[0])
