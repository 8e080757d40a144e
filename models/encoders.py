"""What a U-Net goes down with: levels from the image's own resolution to the deepest, each half the one above.

| encoder | levels |
|---|---|
| `plain` | twice 3x3 convolution, norm, ReLU; pooling between levels |
| `residual` | the same, added to a 1x1 convolution of its input; pooling between levels |
| `resnet18`, `resnet34`, `resnet50` | the image itself, then torchvision's stem and layers, which halve themselves |
| `efficientnet_lite0`, `_lite1`, `_lite2` | the image itself, then timm's stem and stages, which halve themselves |

The last two rows are backbones: networks of a kept library, for which there are weights of ImageNet. Every level but
the first halves its input, and has its fresh weights already. The library is imported where one is requested.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from searcher.models.blocks import Norm, ResidualConv, double_conv
from searcher.models.exceptions import WeightsError
from searcher.models.parts import ENCODERS, Encoder, checked_name
from searcher.models.stems import fit_stem

__all__ = [
    "PLAIN",
    "RESIDUAL",
    "Encoder",
    "EncoderParts",
    "build_encoder",
    "encoder_named",
    "load_backbone",
    "pretrained_encoder",
    "register_encoder",
]


class EncoderParts(NamedTuple):
    """The levels of an encoder, its bottleneck, and the channels of each level."""

    levels: list[nn.Module]
    """From the image's own resolution downwards; what each makes is what its skip hands over."""
    bottleneck: nn.Module
    """The deepest level."""
    channels: list[int]
    """What the levels make, and last the bottleneck."""


def encoder_named(name: str) -> Encoder:
    """Return the encoder registered under a name, as a study file's `model.encoder` gives it.

    Raises:
        ValueError: No encoder has that name; the message lists the known ones.
    """
    if not ENCODERS.known(name):
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS.names())}, got {name!r}")
    return ENCODERS[name]


def build_encoder(
    name: str,
    *,
    base_channels: int,
    depth: int,
    norm: Norm,
    channels: int = 3,
    options: Mapping[str, Any] | None = None,
) -> EncoderParts:
    """Return an encoder's levels with fresh weights.

    Args:
        name: `plain`, `residual`, a backbone, or an encoder of a plug-in; see this module.
        base_channels: Channels of the first level; each level below has twice as many. Backbones ignore it.
        depth: Number of halvings, at least 1; for a backbone at most 5.
        norm: Normalisation after every convolution. An EfficientNet-Lite ignores it: it always has batch norm.
        channels: Channels of the images; for a backbone with other than 3, see `searcher.models.stems`.
        options: Checked settings of a plug-in's encoder; None for its defaults.

    Raises:
        ValueError: No encoder has that name; the message lists the known ones.
    """
    made: EncoderParts = encoder_named(name).made(
        options=options, base_channels=base_channels, depth=depth, norm=norm, channels=channels
    )
    return made


def pretrained_encoder(name: str, weights: str) -> dict[str, Tensor] | None:
    """Return the pretrained weights of a backbone, by its library's names; None for no weights.

    Args:
        name: Name of the backbone, such as `resnet34`.
        weights: `none`, `imagenet`, or the path of a file.

    Raises:
        WeightsError: The weights cannot be read or downloaded.
    """
    weights_of = encoder_named(name).weights
    return None if weights_of is None else weights_of(weights)


def load_backbone(name: str, levels: list[nn.Module], state: dict[str, Tensor], *, source: str) -> None:
    """Load pretrained weights into the levels of a backbone, in place.

    Args:
        name: Name of the backbone, such as `resnet34`.
        levels: The levels that `build_encoder` made, and the bottleneck last.
        state: Weights by the library's names. Those of deeper levels and of the classifier are left out. Those of the
            first layer are adapted to the images' channels: see `searcher.models.stems`.
        source: What the weights are, for messages.

    Raises:
        WeightsError: The weights are of another network. The levels may already hold some of them.
    """
    encoder = ENCODERS[name]
    assert encoder.by_level is not None
    if encoder.stem:
        state = fit_stem(state, encoder.stem, dict(levels[1].named_parameters())[encoder.stem].shape[1])
    for level, part in zip(levels[1:], encoder.by_level(state), strict=False):
        try:
            level.load_state_dict(part)
        except RuntimeError as error:  # its first line only says that there are errors
            first = [line.strip() for line in str(error).splitlines()][:2][-1][:160]
            raise WeightsError(
                f"{source}: must be of the network that model.encoder names, got: {first}"
            ) from error


def register_encoder(name: str, encoder: Encoder) -> Encoder:
    """Register an encoder under a name, for a plug-in, and return the encoder.

    Study files then accept the name. `encoder.options` are the encoder's own settings.

    Raises:
        PluginError: Another encoder has the name, or the name has a `+` or `.` in it.
    """
    return ENCODERS.register(checked_name("encoder", name, encoder.options), encoder)


def _of_blocks(
    block: Callable[[int, int, Norm], nn.Module], *, base_channels: int, depth: int, norm: Norm, channels: int
) -> EncoderParts:
    widths = [base_channels * 2**level for level in range(depth + 1)]
    *levels, bottleneck = (
        block(before, after, norm) for before, after in zip([channels, *widths[:-1]], widths, strict=True)
    )
    return EncoderParts(levels, bottleneck, widths)


PLAIN = Encoder(build=partial(_of_blocks, double_conv))
"""Twice 3x3 convolution, norm, ReLU."""
RESIDUAL = Encoder(build=partial(_of_blocks, ResidualConv))
"""The same, added to a 1x1 convolution of its input."""
