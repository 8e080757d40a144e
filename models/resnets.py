"""torchvision's ResNets (He et al. 2016, arXiv 1512.03385) as encoders, and their weights.

torchvision is here anyway, knows where the weights of ImageNet are, and needs no network when none are requested.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import (  # type: ignore[import-untyped]
    ResNet18_Weights,
    ResNet34_Weights,
    ResNet50_Weights,
    resnet18,
    resnet34,
    resnet50,
)
from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]

from searcher.models.blocks import Norm, norm_layer
from searcher.models.encoders import Encoder, EncoderParts
from searcher.models.pretrained import fetch, read_weights
from searcher.models.stems import LikeImageNet, stem_channels, with_channels

__all__ = ["RESNET18", "RESNET34", "RESNET50", "STEM", "build_resnet", "by_level", "pretrained_resnet"]

STEM = "conv1.weight"
"""Of the first convolution."""

_RESNETS: dict[str, tuple[Callable[..., Any], Any]] = {
    "resnet18": (resnet18, ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": (resnet34, ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": (resnet50, ResNet50_Weights.IMAGENET1K_V2),
}
_WIDTHS = (64, 128, 256, 512)


class _Stem(nn.Sequential):
    """The first convolution, with torchvision's names."""

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = resnet.conv1, resnet.bn1, resnet.relu


class _FirstLayer(nn.Sequential):
    """Max pooling and the first layer, with torchvision's names."""

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.maxpool, self.layer1 = resnet.maxpool, resnet.layer1


def build_resnet(name: str, *, depth: int, norm: Norm, channels: int = 3) -> EncoderParts:
    """Return the first levels of a ResNet as an encoder: the image itself, the stem, then layers 1 to 4.

    Args:
        name: `resnet18`, `resnet34` or `resnet50`.
        depth: Number of halvings, 1 to 5.
        norm: Normalisation. With `none`, each block starts as its shortcut, so that the scale of the input is kept.
        channels: Channels of the images; see `searcher.models.stems`.

    Raises:
        ValueError: `name` is none of the three, or `depth` is above 5.
    """
    if name not in _RESNETS:
        raise ValueError(f"encoder must be one of {', '.join(_RESNETS)}, got {name!r}")
    if depth > 5:
        raise ValueError(f"encoder={name!r} needs a depth of at most 5, got depth={depth}")
    resnet = _RESNETS[name][0](weights=None, norm_layer=lambda channels: norm_layer(channels, norm))
    if norm == "none":
        for block in resnet.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                nn.init.zeros_((block.conv2 if isinstance(block, BasicBlock) else block.conv3).weight)
    resnet.conv1 = with_channels(resnet.conv1, stem_channels(channels))
    levels = [
        LikeImageNet(),
        _Stem(resnet),
        _FirstLayer(resnet),
        resnet.layer2,
        resnet.layer3,
        resnet.layer4,
    ]
    expansion = resnet.layer1[0].expansion
    made = [stem_channels(channels), 64, *(width * expansion for width in _WIDTHS)]
    return EncoderParts(levels[:depth], levels[depth], made[: depth + 1])


def pretrained_resnet(name: str, weights: str) -> dict[str, Tensor] | None:
    """Return the state dictionary of a ResNet, with torchvision's names; None if `weights` is `none`.

    Args:
        name: `resnet18`, `resnet34` or `resnet50`.
        weights: `none`, `imagenet`, or the path of a file.

    Raises:
        WeightsError: The weights cannot be read or downloaded.
    """
    if weights == "none":
        return None
    return fetch(_RESNETS[name][1]) if weights == "imagenet" else read_weights(Path(weights))


def by_level(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the weights of each of the five levels, one dictionary a level, by the names inside the level.

    Args:
        state: Weights of the whole network by torchvision's names; those of the classifier are left out.
    """

    def inside(*prefixes: str, without: str = "") -> dict[str, Tensor]:
        return {key.removeprefix(without): value for key, value in state.items() if key.startswith(prefixes)}

    deeper = [inside(f"layer{n}.", without=f"layer{n}.") for n in (2, 3, 4)]
    return [inside("conv1.", "bn1."), inside("layer1."), *deeper]


def _encoder(name: str) -> Encoder:
    def build(*, base_channels: int, depth: int, norm: Norm, channels: int) -> EncoderParts:
        del base_channels  # it has its own
        return build_resnet(name, depth=depth, norm=norm, channels=channels)

    return Encoder(
        build=build,
        max_depth=5,
        halves=True,
        weights=partial(pretrained_resnet, name),
        by_level=by_level,
        stem=STEM,
    )


RESNET18, RESNET34, RESNET50 = map(_encoder, _RESNETS)
