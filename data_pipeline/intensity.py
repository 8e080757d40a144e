"""Jittered intensities of images that are no 8 bit colour: fluorescence, 16 bit, any number of channels.

Each channel is another dye with an exposure of its own, so brightness and contrast are drawn for each. Hue, saturation
and stains mean nothing there.
"""

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["IntensityJitter", "is_colour"]

_PROBABILITY = 0.8


def is_colour(image: Pixels) -> bool:
    """Return whether an image is 8 bit RGB: three channels of uint8."""
    return image.dtype == np.uint8 and image.shape[2] == 3


class IntensityJitter:
    """Changes brightness and contrast of each channel at random, in place, in 4 of 5 images. Threads may share one.

    Args:
        max_change: Factors are uniform between 1 - `max_change` and 1 + `max_change`; 0 to 1.
    """

    def __init__(self, max_change: float) -> None:
        assert 0 <= max_change <= 1, max_change
        self._max_change = max_change

    def __call__(self, image: Pixels, rng: np.random.Generator) -> None:
        """Change an image in place.

        Args:
            image: uint8 or uint16[H, W, C].
            rng: Everything random is drawn from it.
        """
        if rng.random() < _PROBABILITY:
            brightness, contrast = 1 + self._max_change * rng.uniform(-1, 1, size=(2, image.shape[2]))
            if _is_grey(image):  # three equal channels stay equal, as they are in every image
                brightness[:], contrast[:] = brightness[0], contrast[0]
            self.apply(image, brightness, contrast)

    @staticmethod
    def apply(image: Pixels, brightness: NDArray[np.float64], contrast: NDArray[np.float64]) -> None:
        """Replace each value v of a channel by `brightness * (mean + contrast * (v - mean))`, rounded and clipped.

        The mean is the channel's.

        Args:
            image: uint8 or uint16[H, W, C], changed in place.
            brightness: float64[C], a factor for each channel.
            contrast: float64[C], a factor for each channel.
        """
        mean = image.mean(axis=(0, 1), dtype=np.float64)
        factor = (brightness * contrast).astype(np.float32)
        offset = (brightness * mean * (1 - contrast)).astype(np.float32)
        values = image * factor + offset
        np.copyto(image, np.rint(values).clip(0, np.iinfo(image.dtype).max), casting="unsafe")


def _is_grey(image: Pixels) -> bool:
    """Return whether an image of three channels is grey, by every 16th row."""
    return image.shape[2] == 3 and bool((image[::16, :, :1] == image[::16, :, 1:]).all())
