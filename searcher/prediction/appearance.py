"""What objects look like: stains in bright field, otherwise the intensity of each channel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.stain import optical_density, stain_amounts
from searcher.prediction.moments import Moments

__all__ = ["LUMEN_DENSITY", "Intensities", "Staining"]

LUMEN_DENSITY = 0.15
"""Pixels whose optical density is below this in red, green and blue are unstained: the threshold of Macenko et al. 2009
(A method for normalizing histology slides for quantitative analysis, ISBI) between tissue and transparent pixels."""

_VALUE_BITS = 16


class Staining:
    """Gathers, for each object, the amounts of haematoxylin and eosin and the number of unstained pixels.

    Args:
        num: Number of objects.
    """

    def __init__(self, num: int) -> None:
        self._stain = Moments.empty(num, 2)
        self._pale_px = np.zeros(num)

    def add(self, objects: NDArray[np.intp], group: NDArray[Any], pixels: NDArray[Any]) -> None:
        """Add pixels of some objects to the sums.

        Args:
            objects: Indices of the objects, each with at least one pixel.
            group: integer[n], for each pixel the place in `objects` of the object that it belongs to.
            pixels: uint8[n, 3], RGB.
        """
        density = optical_density(pixels)
        amounts = stain_amounts(density)
        self._stain.add(objects, Moments.of(group, len(objects), amounts[:, 0], amounts[:, 1]))
        is_pale = (density < LUMEN_DENSITY).all(axis=1)
        self._pale_px[objects] += np.bincount(group, is_pale, len(objects))

    def columns(self, area_px: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Return the columns of the table of objects by name, float64[n] or int64[n] each.

        Args:
            area_px: float64[n], area of each object in pixels.
        """
        deviation = self._stain.deviation()
        return {
            "lumen_area_px": self._pale_px.astype(np.int64),
            "lumen_fraction": self._pale_px / area_px,
            "hematoxylin_od_mean": self._stain.mean[:, 0],
            "hematoxylin_od_sd": deviation[:, 0],
            "eosin_od_mean": self._stain.mean[:, 1],
            "eosin_od_sd": deviation[:, 1],
        }


class Intensities:
    """Gathers mean, deviation and median of each channel's values, for each object.

    For the median, each different value of an object is kept with its count: some KB for an object and channel.

    Args:
        num: Number of objects.
        channels: Number of channels of the image.
    """

    def __init__(self, num: int, channels: int) -> None:
        self._moments = Moments.empty(num, channels)
        self._values: list[list[NDArray[np.int64]]] = [[] for _ in range(channels)]
        self._counts: list[list[NDArray[np.int64]]] = [[] for _ in range(channels)]

    def add(self, objects: NDArray[np.intp], group: NDArray[Any], pixels: NDArray[Any]) -> None:
        """Add pixels of some objects to the sums.

        Args:
            objects: Indices of the objects, each with at least one pixel.
            group: integer[n], for each pixel the place in `objects` of the object that it belongs to.
            pixels: uint8 or uint16[n, C].
        """
        channels = [pixels[:, channel].astype(np.float64) for channel in range(pixels.shape[1])]
        self._moments.add(objects, Moments.of(group, len(objects), *channels))
        of_object = objects[group].astype(np.int64) << _VALUE_BITS
        for channel, (values, counts) in enumerate(zip(self._values, self._counts, strict=True)):
            found, num = np.unique(of_object | pixels[:, channel].astype(np.int64), return_counts=True)
            values.append(found)
            counts.append(num.astype(np.int64))

    def columns(self, area_px: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Return the columns of the table of objects by name, float64[n] each.

        Args:
            area_px: float64[n], area of each object in pixels.
        """
        deviation = self._moments.deviation()
        table: dict[str, NDArray[Any]] = {}
        for channel in range(len(self._values)):
            name = f"channel_{channel + 1}"
            table[f"{name}_mean"] = self._moments.mean[:, channel]
            table[f"{name}_sd"] = deviation[:, channel]
            table[f"{name}_median"] = self._medians(channel, area_px.astype(np.int64))
        return table

    def _medians(self, channel: int, area_px: NDArray[np.int64]) -> NDArray[np.float64]:
        if not len(area_px):
            return np.zeros(0)
        values, counts = (np.concatenate(parts[channel]) for parts in (self._values, self._counts))
        order = np.argsort(values, kind="stable")  # by object, then by value
        upto, values = counts[order].cumsum(), values[order] & ((1 << _VALUE_BITS) - 1)
        first = area_px.cumsum() - area_px
        middle = (
            values[np.searchsorted(upto, first + rank, side="right")]
            for rank in ((area_px - 1) // 2, area_px // 2)
        )
        return np.asarray(sum(middle) / 2, np.float64)
