"""Means and spreads of quantities by object, gathered block by block.

They are joined as Chan, Golub and LeVeque do (1983, The American Statistician 37(3)).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]


@dataclass
class Moments:
    """For each object: the number of values, their means, and the summed products of deviations from the means."""

    count: NDArray[np.float64]
    """float64[n]."""
    mean: NDArray[np.float64]
    """float64[n, quantities]."""
    spread: NDArray[np.float64]
    """float64[n, quantities, quantities], sums of products of deviations from the mean."""

    @classmethod
    def empty(cls, num: int, num_quantities: int) -> "Moments":
        """Return moments without any value, for `num` objects."""
        return cls(
            np.zeros(num), np.zeros((num, num_quantities)), np.zeros((num, num_quantities, num_quantities))
        )

    @classmethod
    def of(cls, group: NDArray[Any], num: int, *quantities: NDArray[Any]) -> "Moments":
        """Return the moments of values that are divided into groups 0 to `num` - 1; no group may be empty.

        Args:
            group: int[k], the group of each value, 0 to `num` - 1.
            num: Number of groups.
            *quantities: Each float[k], one value per element of `group`.
        """
        made = cls.empty(num, len(quantities))
        made.count[:] = np.bincount(group, minlength=num)
        off = []
        for i, values in enumerate(quantities):
            made.mean[:, i] = np.bincount(group, values, num) / made.count
            off.append(values - made.mean[group, i])
            for j in range(i + 1):
                made.spread[:, i, j] = made.spread[:, j, i] = np.bincount(group, off[i] * off[j], num)
        return made

    def deviation(self) -> NDArray[np.float64]:
        """Return the standard deviations, float64[n, quantities]."""
        variance = np.einsum("nii->ni", self.spread) / np.maximum(self.count, 1)[:, None]
        return np.asarray(np.sqrt(variance), np.float64)

    def add(self, objects: NDArray[np.intp], other: "Moments") -> None:
        """Add the moments of further values of some objects."""
        before, both = self.count[objects], self.count[objects] + other.count
        apart = other.mean - self.mean[objects]
        weight = before * other.count / both
        self.spread[objects] += other.spread + weight[:, None, None] * apart[:, :, None] * apart[:, None, :]
        self.mean[objects] += apart * (other.count / both)[:, None]
        self.count[objects] = both
