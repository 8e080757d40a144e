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
    """The levels of an encoder."""

    levels: list[nn.Module]
    """From the image's own resolution downwards; what each makes is what its skip hands over."""
    bottleneck: nn.Module
    """The deepest level."""
    channels: list[int]
    """What the levels make, and last the bottleneck."""


def encoder_named(name: str) -> Encoder:
    """Return the encoder that settings name.

    Raises:
        ValueError: No such encoder; the message lists the known ones.
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
    """Return an encoder with fresh weights.

    Args:
        name: See above.
        base_channels: Channels of the first level; every level below doubles them. A backbone has its own.
        depth: Number of halvings, at least 1; of a backbone at most 5.
        norm: Normalisation after every convolution. An EfficientNet-Lite has batch norm.
        channels: Of the images; a backbone sees other than 3 as `searcher.models.stems` says.
        options: Settings of a plug-in's encoder, as checked; None: its defaults.

    Raises:
        ValueError: No such encoder; the message lists the known ones.
    """
    made: EncoderParts = encoder_named(name).made(
        options=options, base_channels=base_channels, depth=depth, norm=norm, channels=channels
    )
    return made


def pretrained_encoder(name: str, weights: str) -> dict[str, Tensor] | None:
    """Return a state dictionary for a backbone, with its library's names; None for no weights.

    Args:
        name: A backbone's.
        weights: `none`, `imagenet`, or a file.

    Raises:
        WeightsError: It cannot be had.
    """
    weights_of = encoder_named(name).weights
    return None if weights_of is None else weights_of(weights)


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
    """Make an encoder known under a name, for a plug-in, and return it. `encoder.options` are its own settings.

    Raises:
        PluginError: Another encoder has the name, or it has a `+` or `.` in it.
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
