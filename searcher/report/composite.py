"""Images of any channels as people look at them, in red, green and blue."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "composite"]

COLOURS = (
    (80, 120, 255),
    (0, 255, 0),
    (255, 0, 0),
    (255, 255, 255),
    (255, 0, 255),
    (255, 128, 0),
    (0, 128, 128),
)
"""Of the channels in turn, RGB: blue, green, red, white, magenta, orange, teal. Outlines are yellow and cyan."""


def composite(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of any number of channels in colour, for display.

    Args:
        image: uint8[H, W, C], normalised.

    Returns:
        uint8[H, W, 3]: the image itself for 3 channels, grey for one. Otherwise the sum of the channels, each in its
        own colour from `COLOURS`, clipped at 255.
    """
    channels = image.shape[2]
    if channels == 3:
        return image
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    colours = np.array([COLOURS[channel % len(COLOURS)] for channel in range(channels)], np.float32) / 255
    total = image.astype(np.float32) @ colours
    return np.rint(total).clip(0, 255).astype(np.uint8)
