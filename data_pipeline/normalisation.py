"""From the values of a microscope to 0..255: once per image and channel, before augmentation, tiles and networks.

| kind | 8 bit | 16 bit |
|---|---|---|
| `fixed` | stays as it is | the whole range, 0..65535, becomes 0..255 |
| `percentile` | two percentiles of the whole image become 0 and 255 | in the same way |

`percentile` takes an exposure out of an image: all of an image's values times two give the same result, as long as none
is cut off. Its defaults are StarDist's (Weigert et al. 2020, arXiv 1908.03636).

A percentile is a value of the image: the smallest one that at least that part of the channel's pixels does not exceed
(NumPy's method `inverted_cdf`). If both percentiles are equal, as with few bright pixels, the channel's highest value
replaces the upper one. A channel of one value is black.

Networks from before normalisation were trained on values as they are. `brightens_dark` helps them with an 8 bit image
that is far darker than what a microscope is usually set to: see `is_dark`. One that is brighter stays as it is.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError

__all__ = ["NORMALISATIONS", "Histogram", "Levels", "Normalisation", "NormalisationKind", "levels_of"]

NormalisationKind = Literal["fixed", "percentile"]
NORMALISATIONS: tuple[NormalisationKind, ...] = get_args(NormalisationKind)
"""Every kind of normalisation."""

_TOP = {"uint8": 255, "uint16": 65535}
_DARK = 64
_DARK_PERCENTILES = (1.0, 99.8)
_BRIGHTENED = 128
"""What the upper percentile of a dark image becomes: the middle of the range."""
_MAX_GAIN = 16.0
"""So that the noise of an image of nothing does not become objects."""
_BLOCK_PX = 1 << 22
"""Pixels that are counted at a time, so that counting takes little memory."""


@dataclass(frozen=True)
class Normalisation:
    """The rule by which the values of an image are mapped to 0..255."""

    kind: NormalisationKind = "fixed"
    """See the module."""
    low_percentile: float = 1.0
    """What becomes 0; unused by `fixed`."""
    high_percentile: float = 99.8
    """What becomes 255; unused by `fixed`."""
    brightens_dark: bool = False
    """Whether `fixed` brightens dark 8 bit images, all channels alike; unused by `percentile`."""

    @property
    def depends_on_image(self) -> bool:
        """Whether the rule needs the histogram of the image."""
        return self.kind == "percentile" or self.brightens_dark

    def __post_init__(self) -> None:
        if self.kind not in NORMALISATIONS:
            raise DataError(f"normalisation: must be one of {', '.join(NORMALISATIONS)}, got {self.kind!r}")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise DataError(
                "normalisation: low_percentile must be below high_percentile, both from 0 to 100, got "
                f"{self.low_percentile:g} and {self.high_percentile:g}; correct them"
            )

    def __str__(self) -> str:
        if self.kind == "fixed":
            return "fixed, dark images brightened" if self.brightens_dark else "fixed"
        return f"percentile {self.low_percentile:g} to {self.high_percentile:g}"


@dataclass(frozen=True)
class Levels:
    """For each channel of an image, the values that become 0 and 255."""

    low: NDArray[np.float64]
    """float64[C], what becomes 0."""
    high: NDArray[np.float64]
    """float64[C], what becomes 255; above `low`, or equal to it in a channel that is black."""
    dtype: str
    """Of the image: `uint8` or `uint16`."""

    @property
    def changes_nothing(self) -> bool:
        """Whether `apply` returns the pixels that it is given."""
        return self.dtype == "uint8" and bool((self.low == 0).all() and (self.high == 255).all())

    def apply(self, pixels: NDArray[Any], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return pixels as uint8: `(value - low) * 255 / (high - low)`, rounded half to even, cut off at 0 and 255.

        Args:
            pixels: `dtype`[h, w, C], an image or any part of one.
            out: uint8[h, w, C] to write into, or None.

        Returns:
            uint8[h, w, C]: `out` if given; else `pixels` itself if `changes_nothing`, otherwise a new array. A channel
            whose `high` equals its `low` becomes 0.
        """
        assert pixels.dtype == self.dtype, (pixels.dtype, self.dtype)
        assert pixels.shape[2] == len(self.low), (pixels.shape, len(self.low))
        if self.changes_nothing:
            if out is None:
                return cast("NDArray[np.uint8]", pixels)
            np.copyto(out, pixels)
            return out
        if out is None:
            out = np.empty(pixels.shape, np.uint8)
        for channel, table in enumerate(self._tables()):
            out[..., channel] = table[pixels[..., channel]]
        return out

    def _tables(self) -> NDArray[np.uint8]:
        """Return what each value becomes, uint8[C, 256 or 65536]."""
        values = np.arange(_TOP[self.dtype] + 1, dtype=np.float64)
        width = self.high - self.low
        scaled = (values - self.low[:, None]) * 255 / np.where(width > 0, width, np.inf)[:, None]
        tables: NDArray[np.uint8] = np.rint(scaled).clip(0, 255).astype(np.uint8)
        return tables


class Histogram:
    """Exact counts of the values in each channel of an image, which is given block by block.

    Args:
        num_channels: Number of channels of the image.
        dtype: Type of the pixels, uint8 or uint16.
    """

    def __init__(self, num_channels: int, dtype: "np.dtype[Any] | str") -> None:
        self._dtype = np.dtype(dtype).name
        self._counts = np.zeros((num_channels, _TOP[self._dtype] + 1), np.int64)

    def add(self, pixels: NDArray[Any]) -> None:
        """Count the pixels of a block, `dtype`[h, w, C]."""
        assert pixels.dtype == self._dtype, (pixels.dtype, self._dtype)
        assert pixels.shape[2] == len(self._counts), (pixels.shape, len(self._counts))
        num_rows = max(1, _BLOCK_PX // max(1, pixels.shape[1]))
        for top in range(0, len(pixels), num_rows):
            block = pixels[top : top + num_rows]
            for channel, counts in enumerate(self._counts):
                counts += np.bincount(block[..., channel].ravel(), minlength=len(counts))

    def percentile(self, percentage: float) -> NDArray[np.float64]:
        """Return a percentile of each channel: the smallest value that at least this share of pixels does not exceed.

        It equals `np.percentile(channel, percentage, method="inverted_cdf")`; 0 if no pixel was counted.

        Args:
            percentage: 0 to 100.

        Returns:
            float64[C].
        """
        cumulated = self._counts.cumsum(axis=1)
        rank = max(1, math.ceil(cumulated[0, -1] * (percentage / 100)))
        if rank > cumulated[0, -1]:
            return np.zeros(len(cumulated))
        return np.array([np.searchsorted(each, rank) for each in cumulated], np.float64)

    def is_dark(self) -> bool:
        """Return whether an 8 bit image is dark: in each channel, 99.8% of the pixels are below a quarter of 255."""
        return self._dtype == "uint8" and bool((self.percentile(_DARK_PERCENTILES[1]) < _DARK).all())

    def levels(self, normalisation: Normalisation) -> Levels:
        """Return the values that become 0 and 255, for the image whose blocks were counted."""
        num_channels = len(self._counts)
        if normalisation.kind == "fixed":
            if normalisation.brightens_dark and self.is_dark():
                return self._brightened()
            return _fixed(num_channels, self._dtype)
        low, high = map(self.percentile, (normalisation.low_percentile, normalisation.high_percentile))
        return Levels(low, np.where(high > low, high, self.percentile(100)), self._dtype)

    def _brightened(self) -> Levels:
        low, top = (f(self.percentile(p)) for f, p in zip((np.min, np.max), _DARK_PERCENTILES, strict=True))
        width = max((top - low) * 255 / _BRIGHTENED, 255 / _MAX_GAIN)
        num_channels = len(self._counts)
        return Levels(np.full(num_channels, low), np.full(num_channels, low + width), self._dtype)


def levels_of(image: NDArray[Any], normalisation: Normalisation) -> Levels:
    """Return the values of an image that become 0 and 255.

    Args:
        image: uint8 or uint16[H, W, C], the whole image and not a part of it.
        normalisation: The rule.
    """
    if not normalisation.depends_on_image:
        return _fixed(image.shape[2], image.dtype.name)
    histogram = Histogram(image.shape[2], image.dtype)
    histogram.add(image)
    return histogram.levels(normalisation)


def _fixed(num_channels: int, dtype: str) -> Levels:
    return Levels(np.zeros(num_channels), np.full(num_channels, float(_TOP[dtype])), dtype)
