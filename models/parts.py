"""What networks are put together from, by name: heads, losses, encoders, backbones. Imports no torch, and no network.

The registries hold descriptions, not classes. The modules of the parts import this one, which imports none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from searcher.parts import Part, own_options
from searcher.plugins import PluginError, Registry

__all__ = [
    "BACKBONES",
    "ENCODERS",
    "HEADS",
    "KINDS",
    "LOSSES",
    "PRETRAINED_ENCODERS",
    "Backbone",
    "Encoder",
    "HeadPart",
    "LossPart",
    "checked_name",
    "has_own_norm",
    "loss_names",
]


@dataclass(frozen=True)
class HeadPart(Part[Any]):
    """A registered head.

    `build` is a subclass of `searcher.models.heads.Head`. It is called with `HeadOptions` and the head's own settings.
    """

    postprocess_keys: tuple[str, ...] = ()
    """See `SegmentationModel.postprocess_keys`."""
    border_keys: tuple[str, ...] = ()
    """See `ModelSettings.border_keys`."""


@dataclass(frozen=True)
class LossPart(Part[Any]):
    """A registered loss.

    `build` is a subclass of `searcher.models.losses.Loss`. It is called with `focal_gamma` and the loss' own settings.
    """

    uses_weights: bool = True
    """Whether a map of weights, as `border_weight` makes it, counts."""


@dataclass(frozen=True, kw_only=True)
class Encoder(Part[Any]):
    """A registered encoder of a U-Net.

    `build` is called with the encoder's own settings, and with those of `base_channels`, `depth`, `norm` and `channels`
    that its signature has. It returns `searcher.models.encoders.EncoderParts`; see `build_encoder` there.
    """

    max_depth: int = 8
    """Most halvings."""
    halves: bool = False
    """Whether each level but the first halves its input, and has its fresh weights; else levels are pooled between."""
    own_norm: Literal["none", "batch", "group"] | None = None
    """The normalisation that it always has; None for the one of `norm`."""
    weights: Callable[[str], Any] | None = None
    """Returns a state dictionary for `none`, `imagenet` or a file; None for an encoder without such weights."""
    by_level: Callable[[Any], list[Any]] | None = None
    """Splits such a state into those of each level but the first, with the names inside of it."""
    stem: str = ""
    """Name of the first layer's weights, in the state and in its level, which are fitted to the images' channels."""


@dataclass(frozen=True, kw_only=True)
class Backbone(Part[Any]):
    """A registered backbone: the network below a Mask R-CNN's feature pyramid.

    `build` is called with the backbone's own settings, and with those of `channels` (of the images) and `norm`
    ("frozen", "batch" or "group") that its signature has. It returns `searcher.models.backbones.BackboneParts`.
    """

    has_own_norm: bool = False
    """Whether it has batch norm, trained or frozen, and cannot have group norm."""
    weights: Callable[[str], Any] | None = None
    """Returns a state dictionary for `none`, `imagenet` or a file; None for a backbone without such weights."""
    stem: str = ""
    """Name in `body` of the first layer's weights, which are fitted to the images' channels."""


PRETRAINED_ENCODERS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
)
"""The encoders of ours that are networks of a kept library, for which there are weights of ImageNet."""

HEADS: Registry[HeadPart] = Registry(
    "head",
    key="model.head",
    built_in={
        "binary": "searcher.models.heads:BINARY",
        "contour": "searcher.models.heads:CONTOUR",
        "distance": "searcher.models.heads:DISTANCE",
    },
)
"""What a dense network predicts for a pixel."""

LOSSES: Registry[LossPart] = Registry(
    "loss",
    key="model.loss",
    built_in={
        "bce": "searcher.models.losses:CROSS_ENTROPY",
        "dice": "searcher.models.losses:DICE",
        "ce": "searcher.models.losses:CROSS_ENTROPY",
        "focal": "searcher.models.losses:FOCAL",
    },
)
"""The terms of a training loss, which settings join by `+`."""

ENCODERS: Registry[Encoder] = Registry(
    "encoder",
    key="model.encoder",
    built_in={
        "plain": "searcher.models.encoders:PLAIN",
        "residual": "searcher.models.encoders:RESIDUAL",
        **{
            name: f"searcher.models.{'resnets' if name.startswith('resnet') else 'efficientnets'}:{name.upper()}"
            for name in PRETRAINED_ENCODERS
        },
    },
)
"""What goes down in a U-Net."""

BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    key="model.backbone",
    built_in={
        name: f"searcher.models.backbones:{name.upper()}"
        for name in ("resnet50", "resnet18", "efficientnet_lite0")
    },
)
"""What lies below a Mask R-CNN's feature pyramid."""

KINDS: dict[str, Registry[Any]] = {"encoder": ENCODERS, "backbone": BACKBONES, "head": HEADS, "loss": LOSSES}
"""The registry of each setting of a model that names parts."""

_OURS_WITH_OWN_NORM = ("efficientnet_lite0",)
"""Of our backbones, so that settings are checked without torch."""


def loss_names(text: str) -> list[str]:
    """Return the names in a sum of losses such as `bce+dice`; an empty list if one is unknown or occurs twice."""
    names = text.split("+")
    return names if len({*names}) == len(names) and all(map(LOSSES.known, names)) else []


def has_own_norm(backbone: str) -> bool:
    """Return whether a backbone always has batch norm, so that it ignores the setting `norm`.

    For a backbone of this package, torch is not imported.

    Args:
        backbone: The backbone's name; it must be registered.
    """
    if backbone in BACKBONES.built_in_names():
        return backbone in _OURS_WITH_OWN_NORM
    return BACKBONES[backbone].has_own_norm


def checked_name(kind: str, name: str, options: type[BaseModel] | None) -> str:
    """Return the name of a part that a plug-in registers, after checking it.

    Args:
        kind: Kind of the part, a key of `KINDS` such as `head`.
        name: Name of the part.
        options: Class of the part's own settings, or None.

    Raises:
        PluginError: The name has a `+`, which joins names, or a `.`, which joins keys. Or a part of another kind has
            the same name and other settings: both would be set by `model.options.NAME`.
    """
    for sign, what in (("+", "joins losses"), (".", "joins keys")):
        if sign in name:
            raise PluginError(f"{kind} {name!r}: must have a name without '{sign}', which {what}; rename it")
    for other, registry in KINDS.items():
        theirs = own_options(registry, load=False).get(name)
        if other != kind and options is not None and theirs not in (None, options):
            raise PluginError(
                f"{kind} {name!r}: must have a name of its own for its settings, got that of a {other} with others; "
                "rename one"
            )
    return name
