"""Three classes per pixel, as in DCAN (Chen et al. 2016, arXiv 1604.02677), which won GlaS, but exclusive."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from searcher.models.heads.head import SEED_MAP_KEYS, Head, Targets
from searcher.models.targets import CONTOUR, INSIDE, contour_classes
from searcher.models.values import InstanceMaps

__all__ = ["ContourHead"]


class ContourHead(Head):
    """A head with three exclusive classes per pixel: background, inside and contour; see `contour_classes`.

    Between the insides of two touching glands lie two contours. So the insides are separate: each becomes a seed, which
    is then grown back over its contour.
    """

    num_channels = 3
    postprocess_keys = SEED_MAP_KEYS
    border_keys = ("contour_width_px",)

    def targets(self, labels: Tensor) -> Targets:
        """Return the class of each pixel as training target, with the pixels' weights."""
        classes = contour_classes(labels, width_px=self.options.contour_width_px)
        return Targets(classes, self.pixel_weights(labels))

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the classes that `options.loss` names, by name; see `Head.losses_of`."""
        return self.class_losses(logits, targets)

    def maps(self, logits: Tensor) -> Tensor:
        """Return the probabilities of background, inside and contour, float32[B, 3, H, W], from logits."""
        return logits.float().softmax(dim=1)

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return `inside + contour` as foreground map and `inside` as seed map, from `maps` float32[3, H, W]."""
        # A sum of rounded probabilities may exceed 1 in the last digit.
        probability = np.minimum(maps[INSIDE] + maps[CONTOUR], np.float32(1))
        return InstanceMaps(probability, maps[INSIDE])
