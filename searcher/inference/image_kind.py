"""The images that trained networks take: their channels, and how their values become 0..255."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.normalisation import Normalisation, levels_of

__all__ = ["ImageKind"]

_RGB = 3


@dataclass(frozen=True)
class ImageKind:
    """The kind of images that networks take. The default is 8 bit RGB with unchanged values."""

    channels: int = _RGB
    dtype: Literal["uint8", "uint16"] = "uint8"
    """Of the images that they were trained on. With percentiles, images may have either."""
    normalisation: Normalisation = field(default_factory=Normalisation)
    """How values become 0..255."""

    @property
    def is_colour(self) -> bool:
        """Whether networks use 8 bit colour images with unchanged values, as from bright-field microscopes."""
        return (self.channels, self.dtype, self.normalisation.kind) == (_RGB, "uint8", "fixed")

    def __str__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        return (
            f"{channels} of {'8' if self.dtype == 'uint8' else '16'} bit, normalisation {self.normalisation}"
        )

    def takes(self, channels: int) -> bool:
        """Return whether an image with `channels` channels can be used: the networks' number, or grey for colour."""
        return channels == self.channels or (channels == 1 and self.channels == _RGB)

    def fitted(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an image [h, w, C] with the networks' number of channels: a grey one is repeated three times."""
        if image.shape[2] == self.channels:
            return image
        assert self.takes(image.shape[2]), (image.shape, self)
        return np.repeat(image, self.channels, axis=2)

    def normalised(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Return an image with the values and the number of channels that the networks expect.

        Args:
            image: uint8 or uint16[H, W, c], for which `takes(c)` is true. It must be the whole image: percentiles need
                all pixels.

        Returns:
            uint8[H, W, `channels`]; `image` itself where nothing changes.
        """
        normal: NDArray[np.uint8] = self.fitted(levels_of(image, self.normalisation).apply(image))
        return normal
