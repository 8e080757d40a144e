"""The meaning of a dense network's output channels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searcher.models.instance_maps import HasInstanceMaps
from searcher.models.losses import binary_losses, class_losses
from searcher.models.parts import LOSSES
from searcher.models.settings_base import PartOptions
from searcher.models.targets import border_weight, continued, has_unannotated
from searcher.models.values import InstanceMaps
from searcher.renamed import old_names

__all__ = ["SEED_MAP_KEYS", "Head", "HeadOptions", "Targets"]

SEED_MAP_KEYS = (
    "seed_threshold",
    "threshold",
    "smoothing_sigma_px",
    "min_seed_area_px",
    "min_object_area_px",
    "keep_unseeded",
)
"""The `postprocess_keys` of heads whose instances grow from seeds."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """How heads are trained; see `UNetSettings` for each field. A head uses the fields that concern it."""

    loss: str = "bce"
    """Losses of the classes or of the foreground, joined by `+`; see `searcher.models.losses`."""
    focal_gamma: float = 2.0
    """Of the loss `focal`."""
    border_weight: float = 0.0
    """How much more pixels between near instances count in `ce` and `focal`; 0 counts all alike."""
    border_sigma_px: float = 5.0
    """How near instances are for that."""
    contour_width_px: int = 3
    """Of the head `contour`."""
    distance_cap_px: int = 16
    """Of the head `distance`."""
    distance_weight: float = 1.0
    """Of the distance's loss in the head `distance`."""
    of_parts: PartOptions = field(default_factory=dict)
    """Settings that the head and the losses bring with them, by the part's name."""


class Targets(NamedTuple):
    """The training targets of one batch, on the labels' device."""

    pixels: Tensor
    """float32[B, 1, H, W], 1 on foreground, or int64[B, H, W], classes: as the head's losses want it."""
    weights: Tensor | None
    """float32[B, 1, H, W], how much each pixel counts; None where all count alike."""
    distance: Tensor | None = None
    """float32[B, 1, H, W], where the head predicts one; see `inner_distance`."""


class Head(HasInstanceMaps, ABC):
    """The meaning of a dense network's output channels: targets, losses and probabilities. It has no weights.

    A subclass may have settings of its own: they are keyword arguments after `options`.

    Args:
        options: How the head is trained.
    """

    num_channels: int
    """Output channels of the network."""
    postprocess_keys: tuple[str, ...]
    """See `SegmentationModel.postprocess_keys`."""
    border_keys: tuple[str, ...] = ()
    """See `ModelSettings.border_keys`."""

    def __init__(self, options: HeadOptions) -> None:
        self.options = options

    def losses(self, logits: Tensor, labels: Tensor, *, is_partial: bool | None = None) -> dict[str, Tensor]:
        """Return the losses of a batch by name, each a float32 scalar.

        Pixels that are not annotated do not count: the losses see only the others, laid out as an image of one row. The
        losses are 0 if no pixel is annotated.

        With several outputs (deep supervision, Lee et al. 2015, arXiv 1409.5185), each output weighs half as much as
        the previous one; the weights add up to 1.

        Args:
            logits: float[B, n * num_channels, H, W], n outputs one after the other.
            labels: int32[B, H, W], instance label maps, below 0 where nothing is annotated.
            is_partial: Whether some pixels are not annotated; None to look at the labels. On a GPU, looking waits until
                the logits are computed.
        """
        if is_partial is None:
            is_partial = has_unannotated(labels)
        if not is_partial:
            return self._losses_of_all(logits, self.targets(labels))
        is_known = labels >= 0
        targets = self.targets(continued(labels))
        if not is_known.any():
            return {name: loss * 0 for name, loss in self._losses_of_all(logits, targets).items()}
        known = [None if each is None else _in_a_row(each, is_known) for each in targets]
        return self._losses_of_all(_in_a_row(logits, is_known), Targets(*known))  # type: ignore[arg-type]

    def _losses_of_all(self, logits: Tensor, targets: "Targets") -> dict[str, Tensor]:
        """Return the losses of all outputs by name, weighted as `losses` says."""
        outputs = torch.split(logits, self.num_channels, dim=1)
        losses = [self.losses_of(output, targets) for output in outputs]
        if len(losses) == 1:
            return losses[0]
        total = 2 - 0.5 ** (len(losses) - 1)
        return {
            name: torch.stack([each[name] * 0.5**n / total for n, each in enumerate(losses)]).sum()
            for name in losses[0]
        }

    @abstractmethod
    def targets(self, labels: Tensor) -> Targets:
        """Return the training targets for label maps.

        Args:
            labels: int32[B, H, W], instance label maps.
        """

    @abstractmethod
    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of one output by name, each a float32 scalar.

        Args:
            logits: float[B, num_channels, H, W].
            targets: The result of `targets`.
        """

    @abstractmethod
    def maps(self, logits: Tensor) -> Tensor:
        """Return the network's maps, float32[B, C, H, W] from 0 to 1, from its logits.

        Args:
            logits: float[B, num_channels, H, W].
        """

    @abstractmethod
    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the foreground map and the seed map of one image; see `DenseModel.instance_maps`.

        Args:
            maps: float32[C, H, W], one image of the result of `maps`.
        """

    def foreground_losses(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses that `options.loss` names for one logit per pixel, by name.

        Args:
            logits: float[B, 1, H, W].
            targets: Targets whose `pixels` are float32[B, 1, H, W].
        """
        options = self.options
        return binary_losses(
            options.loss,
            logits,
            targets.pixels,
            weight=targets.weights,
            focal_gamma=options.focal_gamma,
            options=options.of_parts,
        )

    def class_losses(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses that `options.loss` names for exclusive classes, by name.

        Args:
            logits: float[B, K, H, W], K classes.
            targets: Targets whose `pixels` are int64[B, H, W].
        """
        options = self.options
        return class_losses(
            options.loss,
            logits,
            targets.pixels,
            weight=targets.weights,
            focal_gamma=options.focal_gamma,
            options=options.of_parts,
        )

    def pixel_weights(self, labels: Tensor) -> Tensor | None:
        """Return the weight of each pixel in the losses, float32[B, 1, H, W]; None where all pixels count alike.

        Weights are high between instances that nearly touch, see `border_weight`. They are None if `border_weight` is 0
        in the options, or no loss of `options.loss` uses weights.

        Args:
            labels: int32[B, H, W], instance label maps.
        """
        uses_them = any(LOSSES[name].uses_weights for name in self.options.loss.split("+"))
        if not self.options.border_weight or not uses_them:
            return None
        return border_weight(labels, weight=self.options.border_weight, sigma_px=self.options.border_sigma_px)


def _in_a_row(values: Tensor, is_chosen: Tensor) -> Tensor:
    """Return the chosen pixels as an image of one row: [1, C, 1, N] of [B, C, H, W], [1, 1, N] of [B, H, W].

    Args:
        values: Of every pixel.
        is_chosen: bool[B, H, W], N of them true.
    """
    if values.ndim == 3:
        return values[is_chosen][None, None]
    return values.movedim(1, -1)[is_chosen].T[None, :, None]


__getattr__ = old_names(__name__)
