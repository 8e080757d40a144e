"""What a U-Net goes down with: levels from the image's own resolution to the deepest, each half the one above.

| encoder | levels |
|---|---|
| `plain` | twice 3x3 convolution, norm, ReLU; pooling between levels |
| `residual` | the same, added to a 1x1 convolution of its input; pooling between levels |
| `resnet18`, `resnet34`, `resnet50` | the image itself, then torchvision's stem and layers, which halve themselves |
| `efficientnet_lite0`, `_lite1`, `_lite2` | the image itself, then timm's stem and stages, which halve themselves |

The last two rows are backbones: networks of a kept library, for which there are weights of ImageNet. Every level but
the first halves its input, and has its fresh weights already. The library is imported where one is asked for.
"""

from typing import NamedTuple

from torch import Tensor, nn

from searcher.models.blocks import Norm, ResidualConv, double_conv
from searcher.models.exceptions import WeightsError
from searcher.models.settings import BACKBONES
from searcher.models.stems import fit_stem

__all__ = ["EncoderParts", "build_encoder", "load_backbone", "pretrained_state"]


class EncoderParts(NamedTuple):
    """The levels of an encoder."""

    levels: list[nn.Module]
    """From the image's own resolution downwards; what each makes is what its skip hands over."""
    bottleneck: nn.Module
    """The deepest level."""
    channels: list[int]
    """What the levels make, and last the bottleneck."""


def build_encoder(
    name: str, *, base_channels: int, depth: int, norm: Norm, channels: int = 3
) -> EncoderParts:
    """Return an encoder with fresh weights.

    Args:
        name: See above.
        base_channels: Channels of the first level; every level below doubles them. A backbone has its own.
        depth: Number of halvings, at least 1; of a backbone at most 5.
        norm: Normalisation after every convolution. An EfficientNet-Lite has batch norm.
        channels: Of the images; a backbone sees other than 3 as `searcher.models.stems` says.

    Raises:
        ValueError: No such encoder; the message lists the known ones.
    """
    blocks = {"plain": double_conv, "residual": ResidualConv}
    if name not in (*blocks, *BACKBONES):
        raise ValueError(f"encoder must be one of {', '.join([*blocks, *BACKBONES])}, got {name!r}")
    if name.startswith("resnet"):
        from searcher.models.resnets import build_resnet

        return build_resnet(name, depth=depth, norm=norm, channels=channels)
    if name.startswith("efficientnet"):
        from searcher.models.efficientnets import build_efficientnet

        return build_efficientnet(name, depth=depth, channels=channels)
    widths = [base_channels * 2**level for level in range(depth + 1)]
    *levels, bottleneck = (
        blocks[name](before, after, norm)
        for before, after in zip([channels, *widths[:-1]], widths, strict=True)
    )
    return EncoderParts(levels, bottleneck, widths)


def pretrained_state(name: str, weights: str) -> dict[str, Tensor] | None:
    """Return a state dictionary for a backbone, with its library's names; None for no weights.

    Args:
        name: A backbone's.
        weights: `none`, `imagenet`, or a file.

    Raises:
        WeightsError: It cannot be had.
    """
    if name.startswith("resnet"):
        from searcher.models import resnets

        return resnets.pretrained_state(name, weights)
    from searcher.models import efficientnets

    return efficientnets.pretrained_state(name, weights)


def load_backbone(name: str, levels: list[nn.Module], state: dict[str, Tensor], *, source: str) -> None:
    """Load weights into the levels of a backbone.

    Args:
        name: The backbone's.
        levels: As `build_encoder` made them, with the bottleneck.
        state: Weights by the library's names; what is deeper, and the classifier, are left out. Those of the first
            layer are fitted to the images' channels: see `searcher.models.stems`.
        source: What they are, for messages.

    Raises:
        WeightsError: They are of another network. The levels may hold some of them then.
    """
    if name.startswith("resnet"):
        from searcher.models.resnets import STEM, by_level
    else:
        from searcher.models.efficientnets import STEM, by_level
    state = fit_stem(state, STEM, dict(levels[1].named_parameters())[STEM].shape[1])
    for level, part in zip(levels[1:], by_level(state), strict=False):
        try:
            level.load_state_dict(part)
        except RuntimeError as error:  # its first line only says that there are errors
            first = [line.strip() for line in str(error).splitlines()][:2][-1][:160]
            raise WeightsError(
                f"{source}: must be of the network that model.encoder names, got: {first}"
            ) from error
