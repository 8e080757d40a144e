"""A plug-in of searcher: an Attention U-Net and a Tversky loss."""

from attention_unet.losses import Tversky
from attention_unet.network import AttentionUNet
from attention_unet.settings import AttentionUNetSettings

__all__ = ["AttentionUNet", "AttentionUNetSettings", "Tversky"]
