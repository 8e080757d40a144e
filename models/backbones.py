"""What lies below a Mask R-CNN's feature pyramid: torchvision's ResNets, and any encoder that halves five times.

A ResNet keeps torchvision's names, so that its weights load. An encoder's levels are called `level1` to `level5`.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet  # type: ignore[import-untyped]
from torchvision.ops import FrozenBatchNorm2d  # type: ignore[import-untyped]

from searcher.models.efficientnets import EFFICIENTNET_LITE0 as LITE0_ENCODER
from searcher.models.parts import BACKBONES, Backbone, Encoder, checked_name
from searcher.models.pretrained import fetch, read_weights
from searcher.models.stems import stem_channels, with_channels
from searcher.plugins import PluginError

__all__ = [
    "BODY",
    "EFFICIENTNET_LITE0",
    "RESNET18",
    "RESNET50",
    "BackboneParts",
    "NormLayer",
    "backbone_of",
    "group_norm",
    "norm_layer",
    "register_backbone",
]

BODY = "backbone.body."
"""How the names of a backbone's weights begin in a detector."""
_NUM_LEVELS = 5

NormLayer = Callable[[int], nn.Module]


class BackboneParts(NamedTuple):
    """A backbone with fresh weights: its module, and what the feature pyramid needs to know of its levels."""

    body: nn.Module
    """Its children run one after another, each named."""
    levels: tuple[str, ...]
    """The children that make 1/4, 1/8, 1/16 and 1/32 of the image."""
    channels: list[int]
    """What these four make."""
    stages: tuple[tuple[str, ...], ...]
    """How the names of the parameters of its five stages begin, the deepest stage first: `trainable_layers` counts
    them."""


def norm_layer(norm: str) -> NormLayer:
    """Return a function that makes a normalisation layer for a given number of channels.

    Args:
        norm: `frozen` (batch norm with fixed statistics), `batch` or `group`.
    """
    layers: dict[str, NormLayer] = {
        "frozen": FrozenBatchNorm2d,
        "batch": nn.BatchNorm2d,
        "group": group_norm,
    }
    return layers[norm]


def group_norm(channels: int) -> nn.Module:
    """Return a group norm for `channels` channels.

    It has 32 groups, as in Wu & He 2018 (arXiv 1803.08494), or the greatest common divisor of 32 and `channels`.
    """
    return nn.GroupNorm(math.gcd(32, channels), channels)


def backbone_of(encoder: Encoder) -> Backbone:
    """Return a backbone for Mask R-CNN made from a U-Net encoder, with the encoder's weights and options.

    Args:
        encoder: It must halve its input at each level, and have at least five levels.

    Raises:
        PluginError: The encoder does not halve its input, or has fewer than five levels.
    """
    if not encoder.halves or encoder.max_depth < _NUM_LEVELS:
        raise PluginError(
            "backbone: must be an encoder with halves=True and a max_depth of at least 5, got "
            f"halves={encoder.halves} max_depth={encoder.max_depth}; write a build of its own"
        )
    return Backbone(
        build=partial(_levels_of, encoder),
        options=encoder.options,
        has_own_norm=encoder.own_norm is not None,
        weights=None if encoder.weights is None else partial(_state_of, encoder),
        stem=f"level1.{encoder.stem}" if encoder.stem else "",
    )


def register_backbone(name: str, backbone: Backbone) -> Backbone:
    """Register a backbone under a name, for a plug-in, and return the backbone.

    Study files then accept the name. `backbone.options` are the backbone's own settings.

    Raises:
        PluginError: Another backbone has the name, or the name has a `+` or `.` in it.
    """
    return BACKBONES.register(checked_name("backbone", name, backbone.options), backbone)


def _levels_of(encoder: Encoder, *, channels: int, norm: str, **options: Any) -> BackboneParts:
    """Return the five levels of an encoder that halve, without the first, which is the image itself."""
    parts = encoder.made(
        options=options,
        base_channels=64,
        depth=_NUM_LEVELS,
        norm="batch" if norm == "frozen" else norm,
        channels=channels,
    )
    levels = [*parts.levels[1:], parts.bottleneck]
    names = [f"level{number}" for number in range(1, _NUM_LEVELS + 1)]
    body: nn.Module = nn.Sequential(OrderedDict(zip(names, levels, strict=True)))
    if norm == "frozen":
        from timm.layers.norm_act import freeze_batch_norm_2d

        body = freeze_batch_norm_2d(body)  # type: ignore[no-untyped-call]
    stages = tuple((f"{name}.",) for name in reversed(names))
    return BackboneParts(body, tuple(names[1:]), list(parts.channels[2:]), stages)


def _state_of(encoder: Encoder, weights: str) -> dict[str, Tensor] | None:
    """Return weights with the names that they have in a detector: those of a detector, or the backbone's alone."""
    assert encoder.weights is not None
    assert encoder.by_level is not None
    state: dict[str, Tensor] | None = encoder.weights(weights)
    if state is None or any(key.startswith("backbone.") for key in state):
        return state
    levels = enumerate(encoder.by_level(state), start=1)
    return {f"{BODY}level{number}.{key}": value for number, level in levels for key, value in level.items()}


def _resnet(name: str, imagenet: Any) -> Backbone:
    def build(*, channels: int, norm: str) -> BackboneParts:
        body = getattr(resnet, name)(norm_layer=norm_layer(norm))
        body.conv1 = with_channels(body.conv1, stem_channels(channels))
        deepest = body.inplanes
        return BackboneParts(
            body,
            ("layer1", "layer2", "layer3", "layer4"),
            [deepest // 8, deepest // 4, deepest // 2, deepest],
            (("layer4.",), ("layer3.",), ("layer2.",), ("layer1.",), ("conv1.", "bn1.")),
        )

    def weights(which: str) -> dict[str, Tensor] | None:
        if which == "none":
            return None
        return fetch(imagenet) if which == "imagenet" else read_weights(Path(which))

    return Backbone(build=build, weights=weights, stem="conv1.weight")


RESNET18 = _resnet("resnet18", ResNet18_Weights.IMAGENET1K_V1)
RESNET50 = _resnet("resnet50", ResNet50_Weights.IMAGENET1K_V1)
EFFICIENTNET_LITE0 = backbone_of(LITE0_ENCODER)
