"""What convolutional networks are put together from."""

from typing import Literal

from torch import Tensor, nn

from searcher.renamed import old_names

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Norm",
    "ResidualConv",
    "Upsampling",
    "double_conv",
    "norm_layer",
    "upsampling_block",
]

Norm = Literal["none", "batch", "group"]
Upsampling = Literal["transposed", "bilinear"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0 to 1: what all pretrained weights expect."""


def double_conv(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """Return a module of two 3x3 convolutions with zero padding, each followed by a normalisation and a ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm: Kind of normalisation; with `none`, the convolutions have a bias.
    """
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=norm == "none"))
        if norm != "none":
            layers.append(norm_layer(out_channels, norm))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ResidualConv(nn.Module):
    """Two 3x3 convolutions with normalisation, added to a 1x1 convolution of the input.

    This is the residual block of He et al. 2016 (arXiv 1512.03385).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm: Kind of normalisation; with any but `none`, the convolutions have no bias.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        *layers, _ = double_conv(in_channels, out_channels, norm)
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=norm == "none")
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output float[B, out_channels, H, W] for an input float[B, in_channels, H, W]."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y

    def begin_as_shortcut(self) -> None:
        """Set the weights of the block's last layer to 0, so that the fresh block returns its 1x1 convolution only.

        A deep network then keeps the scale of its input at the start of training.
        """
        nn.init.zeros_(self.get_parameter(f"body.{len(self.body) - 1}.weight"))


def norm_layer(channels: int, norm: Norm) -> nn.Module:
    """Return a normalisation layer for `channels` channels.

    Args:
        channels: Channels of the input.
        norm: `batch`, `group`, or `none` for a layer that changes nothing.
    """
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(_num_groups(channels), channels)
        case "none":
            return nn.Identity()


def _num_groups(channels: int) -> int:
    """Return the most groups, at most 32, that divide the channels into groups of at least 4; else 1."""
    return max((n for n in range(1, 33) if channels % n == 0 and channels // n >= 4), default=1)


def upsampling_block(in_channels: int, out_channels: int, upsampling: Upsampling) -> nn.Module:
    """Return a module that doubles height and width and changes the number of channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        upsampling: `transposed` for a transposed convolution; otherwise a 1x1 convolution and bilinear upsampling.
    """
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    # The convolution first: the two commute (both linear, weights of the resizing sum to 1), on a quarter of
    # the pixels.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    )


__getattr__ = old_names(__name__)
