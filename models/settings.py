"""The parameters of every model and of post-processing, for study files and builders. Imports no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SETTINGS", "ModelSettings", "PostprocessSettings", "UNetSettings"]


class _Settings(BaseModel):
    """Frozen, typed, keyword-only; unknown keys and wrong types are errors, all reported at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class UNetSettings(_Settings):
    """Parameters of the U-Net (Ronneberger et al. 2015, arXiv 1505.04597).

    The defaults are the plain network of the DTU poster: 64 to 1024 channels, zero padding, transposed
    convolutions, no normalisation, no dropout, one logit per pixel trained with binary cross-entropy.
    """

    name: Literal["unet"] = "unet"
    """Which model this is."""
    base_channels: int = Field(default=64, ge=1, le=1024)
    """Channels of the first level; every level below doubles them."""
    depth: int = Field(default=4, ge=1, le=8)
    """Number of poolings."""
    norm: Literal["none", "batch", "group"] = "none"
    """Normalisation after every convolution."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of dropping a channel after the deepest encoder level and after the bottleneck."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """How a level is doubled in size on the way up."""
    head: Literal["binary"] = "binary"
    """What the network predicts for a pixel: `binary` is one logit, gland or background."""
    loss: Literal["bce", "dice", "bce+dice"] = "bce"
    """Training loss: binary cross-entropy, soft Dice, or their sum."""


class PostprocessSettings(_Settings):
    """How a network's output becomes separate instances."""

    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """A pixel is foreground where its probability exceeds this."""
    min_object_area_px: int = Field(default=0, ge=0)
    """Instances smaller than this are removed. 0 keeps all."""
    fill_holes: bool = True
    """Fill holes inside instances (a gland's lumen belongs to the gland)."""


ModelSettings = UNetSettings
"""Union of every model's settings; `name` tells which."""

SETTINGS: dict[str, type[ModelSettings]] = {"unet": UNetSettings}
"""Settings class of every registered model, by the model's name."""
