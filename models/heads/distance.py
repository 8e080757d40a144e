"""Gland or background, and how deep in the gland."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searcher.models.heads.head import SEED_MAP_KEYS, Head, Targets
from searcher.models.losses import distance_loss
from searcher.models.targets import foreground, inner_distance
from searcher.models.values import InstanceMaps

__all__ = ["DistanceHead"]


class DistanceHead(Head):
    """A head with two outputs per pixel: a logit for gland, and the distance to the gland's border.

    The distance is 1 in a gland's middle; see `inner_distance`. Between touching glands it falls to nearly 0, so each
    gland is grown from its own middle.

    The limit `distance_cap_px` matters, because glands have lobes. GlaS' own annotations were encoded, and cut again
    with a seed threshold of 0.5. Their object F1 was 0.95 without a limit, 0.995 with 16 px, and 0.999 with 8 px
    (training images).
    """

    num_channels = 2
    postprocess_keys = SEED_MAP_KEYS

    def targets(self, labels: Tensor) -> Targets:
        """Return the foreground and the normalised distance to the border as training targets, with pixel weights."""
        return Targets(
            foreground(labels),
            self.pixel_weights(labels),
            inner_distance(labels, cap_px=self.options.distance_cap_px),
        )

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the foreground that `options.loss` names, and the loss `distance`, by name."""
        assert targets.distance is not None
        losses = self.foreground_losses(logits[:, :1], targets)
        distance = distance_loss(logits[:, 1:], targets.distance)
        return {**losses, "distance": self.options.distance_weight * distance}

    def maps(self, logits: Tensor) -> Tensor:
        """Return float32[B, 2, H, W]: the probability of gland, and the distance, clipped to 0 to 1."""
        logits = logits.float()
        return torch.cat([logits[:, :1].sigmoid(), logits[:, 1:].clamp(0, 1)], dim=1)

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the probability of gland as foreground map and the distance as seed map, from float32[2, H, W]."""
        return InstanceMaps(maps[0], maps[1])
