"""What a U-Net goes down with: levels from the image's own resolution to the deepest, each half the one above.

| encoder | levels |
|---|---|
| `plain` | twice 3x3 convolution, norm, ReLU; pooling between levels |
| `residual` | the same, added to a 1x1 convolution of its input; pooling between levels |
| `resnet18`, `resnet34`, `resnet50` | the image itself, then torchvision's stem and layers, which halve themselves |
"""

from typing import NamedTuple

from torch import nn

from models.blocks import Norm, ResidualConv, double_conv

__all__ = ["EncoderParts", "build_encoder"]


class EncoderParts(NamedTuple):
    """The levels of an encoder."""

    levels: list[nn.Module]
    """From the image's own resolution downwards; what each makes is what its skip hands over."""
    bottleneck: nn.Module
    """The deepest level."""
    channels: list[int]
    """What the levels make, and last the bottleneck."""
    is_resnet: bool
    """Whether it is torchvision's: every level but the first halves its input, and has its fresh weights already."""


def build_encoder(name: str, *, base_channels: int, depth: int, norm: Norm) -> EncoderParts:
    """Return an encoder with fresh weights.

    Args:
        name: See above.
        base_channels: Channels of the first level; every level below doubles them. A ResNet has its own.
        depth: Number of halvings, at least 1; of a ResNet at most 5.
        norm: Normalisation after every convolution.

    Raises:
        ValueError: No such encoder; the message lists the known ones.
    """
    if name.startswith("resnet"):
        from models.resnets import build_resnet  # torchvision, which other encoders do without

        return build_resnet(name, depth=depth, norm=norm)
    blocks = {"plain": double_conv, "residual": ResidualConv}
    if name not in blocks:
        raise ValueError(
            f"encoder must be one of {', '.join(blocks)}, resnet18, resnet34, resnet50, got {name!r}"
        )
    channels = [base_channels * 2**level for level in range(depth + 1)]
    *levels, bottleneck = (
        blocks[name](before, after, norm) for before, after in zip([3, *channels[:-1]], channels, strict=True)
    )
    return EncoderParts(levels, bottleneck, channels, is_resnet=False)
