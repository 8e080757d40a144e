"""The Attention U-Net of Oktay et al. 2018 (arXiv 1804.03999): skips are weighed by gates before they are joined.

Shapes: B batch, C channels, H rows, W columns.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attention_unet.settings import AttentionUNetSettings
from searcher.models.base import DenseModel, ModelParts
from searcher.models.heads import HeadOptions, build_head
from searcher.models.registry import register
from searcher.models.settings import PartOptions, PostprocessSettings
from searcher.models.values import InstanceMaps, TensorBatch

__all__ = ["AttentionUNet"]


def _double_conv(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            layer
            for channels in (before, after)
            for layer in (
                nn.Conv2d(channels, after, 3, padding=1, bias=False),
                nn.GroupNorm(1, after),
                nn.ReLU(),
            )
        )
    )


class AttentionGate(nn.Module):
    """Weighs each pixel of a skip by what the level below says of it.

    Args:
        skip: Channels of the skip.
        below: Channels of what comes up from below, at the same size.
        inside: Channels in which both are added.
    """

    def __init__(self, skip: int, below: int, inside: int) -> None:
        super().__init__()
        self.of_skip = nn.Conv2d(skip, inside, 1, bias=False)
        self.of_below = nn.Conv2d(below, inside, 1)
        self.weight = nn.Conv2d(inside, 1, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return the skip float[B, C, H, W], times a weight from 0 to 1 for each pixel."""
        return skip * torch.sigmoid(self.weight(F.relu(self.of_skip(skip) + self.of_below(below))))


@register("attention_unet", AttentionUNetSettings)
class AttentionUNet(DenseModel):
    """A U-Net with an attention gate at each skip.

    Args:
        channels: Of the images.
        base_channels, depth, gate_fraction, head, loss, options: See `AttentionUNetSettings`.
        postprocess: From probabilities to instances.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        base_channels: int = 32,
        depth: int = 4,
        gate_fraction: float = 0.5,
        head: str = "binary",
        loss: str = "bce",
        options: PartOptions | None = None,
        postprocess: PostprocessSettings | None = None,
    ) -> None:
        super().__init__()
        self.postprocess = postprocess or PostprocessSettings()
        self.head = build_head(head, HeadOptions(loss=loss, of_parts=options or {}))
        self.multiple = 2**depth
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _double_conv(before, after)
            for before, after in zip([channels, *widths[:-1]], widths, strict=True)
        )
        pairs = list(
            zip(widths[-2::-1], widths[:0:-1], strict=True)
        )  # of each skip and what comes from below
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, skip, 2, stride=2) for skip, below in pairs)
        self.gates = nn.ModuleList(
            AttentionGate(skip, skip, max(1, round(skip * gate_fraction))) for skip, _ in pairs
        )
        self.join = nn.ModuleList(_double_conv(2 * skip, skip) for skip, _ in pairs)
        self.classifier = nn.Conv2d(base_channels, self.head.num_channels, 1)

    @property
    def postprocess_keys(self) -> tuple[str, ...]:
        """The head's."""
        return self.head.postprocess_keys

    @property
    def kind_of_maps(self) -> str:
        """The head's name."""
        return type(self.head).__name__

    def parts(self) -> ModelParts:
        """Return the way down, and the layer that predicts."""
        return ModelParts(encoder=[self.down], head=[self.classifier])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float[B, C, H, W] with the head's channels, from uint8[B, H, W, C]."""
        x = images.permute(0, 3, 1, 2).to(self.classifier.weight.dtype) / 127.5 - 1
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        skips = []
        for number, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        skips.pop()
        for up, gate, join in zip(self.up, self.gates, self.join, strict=True):
            below = up(x)
            x = join(torch.cat([gate(skips.pop(), below), below], dim=1))
        logits: Tensor = self.classifier(x)
        return logits[:, :, :height, :width]

    def training_step(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Return the head's losses by name."""
        return self.head.losses(self(batch.images), batch.labels)

    @torch.no_grad()
    def predict_maps(self, images: Tensor) -> Tensor:
        """Return the head's probabilities float32[B, C, H, W]."""
        return self.head.maps(self(images))

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return what the head's maps say."""
        return self.head.instance_maps(maps)
