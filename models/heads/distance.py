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
    """A logit for gland, and the distance to the gland's border, 1 in its middle; see `inner_distance`.

    Between touching glands the distance falls to nearly 0: each is grown from its own middle.

    The cap matters: glands have lobes. Without it, and a seed threshold of 0.5, GlaS' own annotations come back as an
    object F1 of 0.95, with 16 px as 0.995, with 8 px as 0.999 (training images).
    """

    num_channels = 2
    postprocess_keys = SEED_MAP_KEYS

    def targets(self, labels: Tensor) -> Targets:
        """Return the foreground and the distance."""
        return Targets(
            foreground(labels),
            self.pixel_weights(labels),
            inner_distance(labels, cap_px=self.options.distance_cap_px),
        )

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the foreground that were requested, and `distance`, by name."""
        assert targets.distance is not None
        losses = self.foreground_losses(logits[:, :1], targets)
        distance = distance_loss(logits[:, 1:], targets.distance)
        return {**losses, "distance": self.options.distance_weight * distance}

    def maps(self, logits: Tensor) -> Tensor:
        """Return float32[B, 2, H, W], the probability of gland and the distance, cut to 0 to 1."""
        logits = logits.float()
        return torch.cat([logits[:, :1].sigmoid(), logits[:, 1:].clamp(0, 1)], dim=1)

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the probability of gland, with the distance as seed map; from float32[2, H, W]."""
        return InstanceMaps(maps[0], maps[1])
