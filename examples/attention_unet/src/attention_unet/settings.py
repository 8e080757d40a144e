"""Parameters of the Attention U-Net. Imports no torch."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from searcher.models.parts import HEADS
from searcher.models.settings import PartOptions, PartsSettings, names_losses
from searcher.parts import one_of

__all__ = ["AttentionUNetSettings"]


class AttentionUNetSettings(PartsSettings):
    """Parameters of the Attention U-Net (Oktay et al. 2018, arXiv 1804.03999)."""

    small: ClassVar[Mapping[str, Any]] = {"base_channels": 8, "depth": 2}

    name: Literal["attention_unet"] = "attention_unet"
    """Which model this is."""
    base_channels: int = Field(default=32, ge=1, le=1024)
    """Channels of the first level; every level below doubles them."""
    depth: int = Field(default=4, ge=1, le=6)
    """Number of poolings."""
    gate_fraction: float = Field(default=0.5, gt=0.0, le=1.0)
    """Channels of an attention gate, as a part of those of the skip that it weighs."""
    head: Annotated[str, one_of(HEADS)] = "binary"
    """What the network predicts for a pixel."""
    loss: Annotated[str, BeforeValidator(names_losses)] = "bce"
    """Losses of the head's classes, joined by `+`."""
    options: PartOptions = Field(default={}, validate_default=True)
    """Settings that the head and the losses bring with them, by the part's name."""
