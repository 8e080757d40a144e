"""Which normalisation a data set wants, told from its images.

| images | taken | why |
|---|---|---|
| 16 bit | `percentile` | cameras use a part of the range, each exposure another |
| other than 3 channels | `percentile` | channels are dyes, each with an exposure of its own |
| 8 bit, 3 channels, dark background | `percentile` | fluorescence in grey, or in colours of the screen |
| other 8 bit | `fixed` | bright field: light that passes tissue, whose colours mean something |

The background is dark if the median of an image's brightest channel is below 64, in the median over the images. An
underexposed slide in bright field can be that dark too. But tissue fills it, so its median is near its brightest
values; in fluorescence, the median is below a quarter of them. Images whose three channels are nearly equal have no
staining's colours to lose, so they need only be dark.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.normalisation import NormalisationKind
from searcher.data_pipeline.store import Store

__all__ = ["Exposure", "NormalisationChoice", "choose_for_store", "choose_normalisation", "exposure_of"]

_DARK = 64
_BRIGHT_PERCENTILE = 99.8
_DARK_SHARE = 0.25
"""Of the brightest values, below which the median is that of a dark background."""
_GREY_SHARE = 0.05
"""Of the brightest values, up to which channels differ that count as equal."""
_MAX_PX = 1 << 16
"""Pixels of an image that are looked at, evenly spread."""
_MAX_IMAGES = 64


@dataclass(frozen=True)
class Exposure:
    """The brightness of an 8 bit image with three channels: background, brightest pixels, and colour."""

    background: float
    """Median of the pixels' brightest channel, 0..255."""
    brightest: float
    """99.8 percentile of the same."""
    colour: float
    """Mean difference between a pixel's highest and lowest channel."""


@dataclass(frozen=True)
class NormalisationChoice:
    """A kind of normalisation, and the reason why it was chosen."""

    kind: NormalisationKind
    reason: str
    """Ends the sentence "normalisation is KIND, since"."""

    def __str__(self) -> str:
        return f"normalisation is {self.kind}, since {self.reason}"


def exposure_of(image: NDArray[np.uint8]) -> Exposure:
    """Return the brightness of an image, measured on evenly spread pixels.

    Args:
        image: uint8[H, W, 3].
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / _MAX_PX)))
    part = image[::step, ::step]
    highest = part.max(axis=2)
    background, brightest = np.percentile(highest, (50, _BRIGHT_PERCENTILE))
    return Exposure(float(background), float(brightest), float((highest - part.min(axis=2)).mean()))


def choose_normalisation(channels: int, dtype: str, exposures: Iterable[Exposure]) -> NormalisationChoice:
    """Return the kind of normalisation that suits a data set, and why.

    Args:
        channels: Number of channels of the images.
        dtype: Type of the pixels, `uint8` or `uint16`.
        exposures: The brightness of all or some of the images; ignored unless they are uint8 with 3 channels.
    """
    if dtype != "uint8":
        return NormalisationChoice("percentile", "images have 16 bit")
    if channels != 3:
        return NormalisationChoice("percentile", f"images have {channels} channels")
    found = list(exposures)
    if not found:
        return NormalisationChoice("fixed", "there is no image to look at")
    background = median(each.background for each in found)
    brightest = median(each.brightest for each in found)
    colour = median(each.colour for each in found)
    shown = f"background (median {background:.0f} of 255)"
    if background >= _DARK:
        return NormalisationChoice("fixed", f"images are 8 bit on a bright {shown}")
    is_grey = colour <= max(1.0, _GREY_SHARE * brightest)
    if is_grey or background < _DARK_SHARE * brightest:
        return NormalisationChoice("percentile", f"images are 8 bit fluorescence, on a dark {shown}")
    return NormalisationChoice("fixed", f"images are 8 bit in colour, if dark: {shown}")


def choose_for_store(store: Store, indices: Sequence[int]) -> NormalisationChoice:
    """Return the kind of normalisation that suits some images of a store, judged by at most 64 of them.

    Args:
        store: The store of the data set.
        indices: The images for training and validation.
    """
    if (len(store.channels), store.dtype) != (3, "uint8"):
        return choose_normalisation(len(store.channels), store.dtype, ())
    some = indices[:: max(1, -(-len(indices) // _MAX_IMAGES))]
    exposures = (exposure_of(store.image(index).astype(np.uint8, copy=False)) for index in some)
    return choose_normalisation(3, "uint8", exposures)
