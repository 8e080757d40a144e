"""How strongly a slide is stained, in the space where stains add up: measured, and jittered.

Each stain weakens light by a factor, so stains add up in optical density, which is the logarithm. A pixel's density is
the sum of haematoxylin, eosin and a rest, each an amount times the stain's own colour (Ruifrok and Johnston 2001,
Analytical and Quantitative Cytology and Histology 23(4), whose colours scikit-image has). For training, amounts are
scaled and shifted at random (Tellez et al. 2018, arXiv 1808.05896), as between laboratories.
"""

import threading
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["StainJitter", "optical_density", "stain_amounts"]

_LEVELS = 256


def optical_density(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the optical density of each channel, `log10(256 / (1 + value))`; 0 for white.

    Args:
        pixels: uint8, of any shape.

    Returns:
        float32 of the same shape, 0 to 2.41.
    """
    # Intensities count from 1: black has an optical density, too.
    density: NDArray[np.float32] = np.log10(_LEVELS / np.arange(1, _LEVELS + 1)).astype(np.float32)[pixels]
    return density


def stain_amounts(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the amounts of haematoxylin, eosin and a rest in each pixel, in decadic optical density.

    The result is 6 times that of `skimage.color.rgb2hed`, which divides by the density of its darkest colour, 1e-6.
    Colours that no mixture of the stains gives have negative amounts. These are kept, so that means are unbiased.

    Args:
        density: float32[..., 3], the `optical_density` of red, green and blue.

    Returns:
        float32[..., 3], the amounts of haematoxylin, eosin and the rest.
    """
    amounts: NDArray[np.float32] = density @ np.linalg.inv(_stain_colours()).astype(np.float32)
    return amounts


@cache
def _stain_colours() -> NDArray[np.float64]:
    """Return float64[3, 3]: what one unit of haematoxylin, eosin and rest adds to red, green and blue."""
    from skimage.color import rgb_from_hed  # a second to import

    return np.asarray(rgb_from_hed, dtype=np.float64)


class StainJitter:
    """Scales and shifts the amounts of the stains in an image at random. Threads may share one.

    Args:
        scale: Each stain's amount is multiplied by a factor between 1 - `scale` and 1 + `scale`; below 1.
        shift: To each stain's amount, a value between -`shift` and `shift` is added, in optical density (natural
            logarithm).
        probability: Probability that an image is changed at all.
    """

    def __init__(self, *, scale: float, shift: float, probability: float) -> None:
        self._scale = scale
        self._shift = shift
        self._probability = probability
        self._colours = _stain_colours()
        self._amounts = np.linalg.inv(self._colours)
        # Intensities count from 1: black has an optical density, too.
        self._log = np.log(np.arange(1, _LEVELS + 1)).astype(np.float32)[None]
        self._scratch = threading.local()

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Change an image in place.

        Args:
            image: uint8[H, W, 3], RGB, C-contiguous.
            rng: Everything random is drawn from it.
        """
        if rng.random() < self._probability:
            scales = 1 + self._scale * rng.uniform(-1, 1, size=3)
            shifts = self._shift * rng.uniform(-1, 1, size=3)
            self.apply(image, scales, shifts)

    def apply(
        self, image: NDArray[np.uint8], scales: NDArray[np.float64], shifts: NDArray[np.float64]
    ) -> None:
        """Scale and shift the amounts of the stains in an image, in place.

        Args:
            image: uint8[H, W, 3], RGB, C-contiguous.
            scales: float64[3], factors for haematoxylin, eosin and the rest.
            shifts: float64[3], values added to the amounts after scaling, in optical density (natural logarithm).
        """
        # Optical density d = log 256 - log(1 + intensity), as a row: d' = d @ matrix + shifts @ colours. The same in
        # logarithms of intensities is again a matrix and a vector.
        matrix = self._amounts @ np.diag(scales) @ self._colours
        vector = np.log(_LEVELS) * (1 - matrix.sum(axis=0)) - shifts @ self._colours
        logarithms = cv2.LUT(image, self._log, dst=self._buffer(image.shape))
        cv2.transform(logarithms, np.column_stack([matrix.T, vector]).astype(np.float32), dst=logarithms)
        np.minimum(
            logarithms, self._log[0, -1], out=logarithms
        )  # white; far beyond, whole numbers would overflow
        cv2.exp(logarithms, dst=logarithms)
        # Rounds. Where a pixel would be darker than black, the absolute value is at most 1.
        cv2.convertScaleAbs(logarithms, dst=image, alpha=1, beta=-1)

    def _buffer(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return this thread's scratch image: fresh memory would cost page faults."""
        buffer: NDArray[np.float32] | None = getattr(self._scratch, "buffer", None)
        if buffer is None or buffer.shape != shape:
            self._scratch.buffer = buffer = np.empty(shape, np.float32)
        return buffer
