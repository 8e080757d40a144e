"""The U-Net of Ronneberger et al. 2015 (arXiv 1505.04597), with zero padding so that sizes are kept.

Shapes: B batch, C channels, H rows, W columns.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.base import DenseModel, Prediction, TensorBatch
from models.heads import build_head
from models.registry import register
from models.settings import PostprocessSettings, UNetSettings

__all__ = ["UNet"]

Norm = Literal["none", "batch", "group"]
Upsampling = Literal["transposed", "bilinear"]


@register("unet", UNetSettings)
class UNet(DenseModel):
    """An encoder that halves the image `depth` times, a decoder that doubles it back, skips between them.

    The defaults are the plain network: every level two 3x3 convolutions with ReLU, 2x2 max pooling, 2x2
    transposed convolutions, 64 to 1024 channels. Images of any size: what does not divide by `2 ** depth` is
    padded, and the output cropped back.

    Args:
        base_channels: Channels of the first level; every level below doubles them.
        depth: Number of poolings.
        norm: Normalisation between every convolution and its ReLU; such convolutions have no bias.
        dropout: Probability of dropping a channel after the deepest encoder level and after the bottleneck.
        upsampling: `transposed`: 2x2 transposed convolution with stride 2. `bilinear`: bilinear resizing and
            a 1x1 convolution. Both halve the channels.
        head: What is predicted for a pixel; see `models.heads`.
        loss: Losses of that head, joined by `+`.
        postprocess: From probabilities to instances.
    """

    def __init__(
        self,
        *,
        base_channels: int = 64,
        depth: int = 4,
        norm: Norm = "none",
        dropout: float = 0.0,
        upsampling: Upsampling = "transposed",
        head: str = "binary",
        loss: str = "bce",
        postprocess: PostprocessSettings | None = None,
    ) -> None:
        super().__init__()
        self.postprocess = postprocess or PostprocessSettings()
        self.head = build_head(head, loss)
        self.size_multiple = 2**depth
        # A norm over a single value is undefined, so the deepest level keeps at least 2x2 pixels for it.
        self.min_size = self.size_multiple * (1 if norm == "none" else 2)

        channels = [base_channels * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            _double_conv(before, after, norm)
            for before, after in zip([3, *channels[:-2]], channels[:-1], strict=True)
        )
        self.bottleneck = _double_conv(channels[-2], channels[-1], norm)
        self.dropout = nn.Dropout2d(dropout)
        self.upsample = nn.ModuleList(_doubling(2 * after, after, upsampling) for after in channels[-2::-1])
        self.decoder = nn.ModuleList(_double_conv(2 * after, after, norm) for after in channels[-2::-1])
        self.classifier = nn.Conv2d(base_channels, self.head.num_channels, 1)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float[B, C, H, W] with the head's channels, before any sigmoid.

        Args:
            images: uint8[B, H, W, 3], RGB.
        """
        height, width = images.shape[1:3]
        x = _normalise(images, self.classifier.weight.dtype)
        x, top, left = _pad(x, self.size_multiple, self.min_size)
        skips = []
        for level in self.encoder:
            x = level(x)
            if level is self.encoder[-1]:
                x = self.dropout(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.dropout(self.bottleneck(x))
        for upsample, level in zip(self.upsample, self.decoder, strict=True):
            x = level(torch.cat([skips.pop(), upsample(x)], dim=1))
        logits: Tensor = self.classifier(x)
        return logits[:, :, top : top + height, left : left + width]

    def training_step(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Return the head's losses by name; see `SegmentationModel.training_step`."""
        return self.head.losses(self(batch.images), batch.labels)

    @torch.no_grad()
    def predict_maps(self, images: Tensor) -> Tensor:
        """Return the head's probabilities float32[B, C, H, W]; see `DenseModel.predict_maps`."""
        return self.head.maps(self(images))

    @torch.no_grad()
    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return losses and probabilities of one forward pass; see `DenseModel.evaluate`."""
        logits = self(batch.images)
        return self.head.losses(logits, batch.labels), self.head.maps(logits)

    def instances_from_maps(self, maps: NDArray[np.float32]) -> Prediction:
        """Return the head's instances in the maps of one image; see `DenseModel.instances_from_maps`."""
        return self.head.instances(maps, self.postprocess)

    def _initialise(self) -> None:
        """Draw weights that keep the activations' scale through the network, with or without norms.

        He et al. 2015 (arXiv 1502.01852, eq. 10): a variance of 2 / fan-in before a ReLU. Where no ReLU
        follows it is 1 / fan-in; a transposed convolution with kernel = stride gives each output pixel one
        tap, so its fan-in is the input channels alone.
        """
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            is_linear = name.startswith(("upsample", "classifier"))
            if is_linear:
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _double_conv(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """Return twice: 3x3 convolution with zero padding, norm, ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(out_channels))
        elif norm == "group":
            layers.append(nn.GroupNorm(_num_groups(out_channels), out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _doubling(in_channels: int, out_channels: int, upsampling: Upsampling) -> nn.Module:
    """Return what doubles height and width and changes the channels."""
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    # The convolution first: the two commute (both linear, weights of the resizing sum to 1), on a quarter of
    # the pixels.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    )


def _num_groups(channels: int) -> int:
    """Return the most groups, at most 32, that divide the channels into groups of at least 4; else 1."""
    return max((n for n in range(1, 33) if channels % n == 0 and channels // n >= 4), default=1)


def _normalise(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float[B, 3, H, W] in -1 to 1 from uint8[B, H, W, 3].

    The permuted view of rows of RGB pixels is what torch calls channels_last: nothing is copied for it.
    """
    return images.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1


def _pad(x: Tensor, multiple: int, min_size: int) -> tuple[Tensor, int, int]:
    """Return x with height and width padded to multiples, the rows added above and the columns added left.

    Both sides get half. Mirrored where the image is larger than the padding, else its edge is repeated.
    """
    height, width = x.shape[-2:]
    rows, columns = (max(-size % multiple, min_size - size) for size in (height, width))
    if not rows and not columns:
        return x, 0, 0
    top, left = rows // 2, columns // 2
    padding = (left, columns - left, top, rows - top)
    fits = rows - top < height and columns - left < width
    return F.pad(x, padding, mode="reflect" if fits else "replicate"), top, left
