"""How a network of a kept library, whose first layer expects red, green and blue, sees other channels.

| channels | what the first layer sees |
|---|---|
| 1 | the channel three times: grey in RGB, with the weights as they are |
| 3 | the channels, with the weights as they are |
| C | the channels; channel c has the kernels of red, green or blue in turn, times 3 / C |

So C channels that repeat red, green and blue give the activations of that one image, up to rounding: timm's rule for
`in_chans`. Means and deviations of ImageNet are repeated in the same turn.
"""

import torch
from torch import Tensor, nn

from searcher.models.blocks import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "LikeImageNet",
    "as_stem_input",
    "fit_stem",
    "imagenet_statistics",
    "stem_channels",
    "with_channels",
]

_RGB = 3


def stem_channels(channels: int) -> int:
    """Return the number of input channels of the first layer, for images with `channels` channels."""
    return _RGB if channels == 1 else channels


def as_stem_input(x: Tensor) -> Tensor:
    """Return a batch for the first layer: a single channel is repeated three times, other batches are unchanged.

    Input and output are float[B, C, H, W].
    """
    return x.expand(-1, _RGB, -1, -1) if x.shape[1] == 1 else x


def imagenet_statistics(channels: int) -> tuple[Tensor, Tensor]:
    """Return ImageNet's mean and standard deviation, float32[C, 1, 1] each, for `channels` channels.

    Beyond the third channel, the values of red, green and blue repeat.
    """
    turn = [channel % _RGB for channel in range(channels)]
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return mean[turn][:, None, None], std[turn][:, None, None]


def fit_stem(state: dict[str, Tensor], name: str, channels: int) -> dict[str, Tensor]:
    """Return pretrained weights whose first convolution is adapted to `channels` input channels.

    Args:
        state: Weights by name.
        name: Name of the first convolution's kernels, float[out, 3, h, w]. Kernels of another shape stay unchanged.
        channels: Input channels of the first layer, see `stem_channels`.
    """
    kernels = state.get(name)
    if kernels is None or channels == _RGB or kernels.ndim != 4 or kernels.shape[1] != _RGB:
        return state
    turn = [channel % _RGB for channel in range(channels)]
    return {**state, name: kernels[:, turn] * (_RGB / channels)}


def with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a ResNet's fresh first convolution with `channels` input channels; the given one if they are 3.

    Args:
        convolution: The fresh convolution of 3 input channels.
        channels: Input channels of the first layer, see `stem_channels`.
    """
    if channels == _RGB:
        return convolution
    fresh = nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        bias=False,
    )
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    return fresh


class LikeImageNet(nn.Module):
    """A module that converts images to the mean and standard deviation that pretrained weights expect."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with mean 0 and deviation 1 over ImageNet: float[B, C, H, W], 3 channels for grey.

        Args:
            x: float[B, C, H, W] in -1 to 1.
        """
        x = as_stem_input(x)
        mean, deviation = (values.to(x) for values in imagenet_statistics(x.shape[1]))
        return ((x + 1) / 2 - mean) / deviation
