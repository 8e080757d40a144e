"""A plug-in of searcher: an Attention U-Net, a Tversky loss, a layout of data sets and a sampler."""

from attention_unet.layout import open_archives
from attention_unet.losses import Tversky
from attention_unet.network import AttentionUNet
from attention_unet.sampler import LatinHypercube
from attention_unet.settings import AttentionUNetSettings

__all__ = ["AttentionUNet", "AttentionUNetSettings", "LatinHypercube", "Tversky", "open_archives"]
