"""What dense networks are put together from, by name: heads, losses, encoders. Imports no torch."""

from typing import TYPE_CHECKING

from searcher.plugins import Registry

if TYPE_CHECKING:
    from searcher.models.encoders import Encoder
    from searcher.models.heads.base import Head
    from searcher.models.losses import Loss

__all__ = ["BACKBONES", "ENCODERS", "HEADS", "LOSSES", "loss_names"]

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
)
"""The encoders of ours that are networks of a kept library, for which there are weights of ImageNet."""

HEADS: "Registry[type[Head]]" = Registry(
    "head",
    key="model.head",
    built_in={
        "binary": "searcher.models.heads.binary:BinaryHead",
        "contour": "searcher.models.heads.contour:ContourHead",
        "distance": "searcher.models.heads.distance:DistanceHead",
    },
)
"""What a dense network predicts for a pixel."""

LOSSES: "Registry[type[Loss]]" = Registry(
    "loss",
    key="model.loss",
    built_in={
        "bce": "searcher.models.losses:CrossEntropy",
        "dice": "searcher.models.losses:Dice",
        "ce": "searcher.models.losses:CrossEntropy",
        "focal": "searcher.models.losses:Focal",
    },
)
"""The terms of a training loss, which settings join by `+`."""

ENCODERS: "Registry[Encoder]" = Registry(
    "encoder",
    key="model.encoder",
    built_in={
        "plain": "searcher.models.encoders:PLAIN",
        "residual": "searcher.models.encoders:RESIDUAL",
        **{
            name: f"searcher.models.{name[:6]}s:{name.upper()}"
            for name in BACKBONES
            if name.startswith("resnet")
        },
        **{
            name: f"searcher.models.efficientnets:{name.upper()}"
            for name in BACKBONES
            if name.startswith("eff")
        },
    },
)
"""What goes down in a U-Net."""


def loss_names(text: str) -> list[str]:
    """Return the terms of a loss, `bce+dice` say; empty if one is unknown or named twice."""
    names = text.split("+")
    return names if len({*names}) == len(names) and all(map(LOSSES.known, names)) else []
