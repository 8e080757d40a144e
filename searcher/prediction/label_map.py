"""An instance label map on disk, at the resolution of the image that it belongs to."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.scratch import Closing, ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.models.values import likeliest
from searcher.prediction.components import blocks_of

__all__ = ["LabelMap"]

_BLOCK_PX = 2048


class LabelMap(Closing):
    """A label map of instances 1 to n in a scratch file, read window by window. A context manager.

    Args:
        scratch: int32[h, w], values from which labels are looked up.
        number_of: int32[values], the label of `abs(value)`, 0 for none. Values with the other sign are background.
        sign: Sign of values that belong to instances, 1 or -1.
        scores: float32[n], confidence in each instance, 0 to 1.
        class_probabilities: float32[n, K], of each instance and class; None where classes were not learned.
    """

    def __init__(
        self,
        scratch: ScratchArray[np.int32],
        number_of: NDArray[np.int32],
        scores: NDArray[np.float32],
        *,
        sign: int,
        class_probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        self._scratch = scratch
        self._number_of = number_of
        self._sign = np.int32(sign)
        self.scores = scores
        """float32[n]; `scores[i]` belongs to label `i + 1`."""
        self.class_probabilities = class_probabilities
        """float32[n, K], in the same order; None where classes were not learned."""
        self.height, self.width = scratch.shape[:2]
        self._sizes_there = (self.height, self.width)

    def close(self) -> None:
        """Close the scratch file, which frees its disk space."""
        self._scratch.close()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def classes(self) -> NDArray[np.int32] | None:
        """int32[n], the most probable class of each instance, from 1; None if the network learned no classes."""
        return None if self.class_probabilities is None else likeliest(self.class_probabilities)

    def blocks(self) -> Iterator[Tile]:
        """Yield windows that together cover the image once, row by row, each small enough for memory."""
        return blocks_of(self.height, self.width, _BLOCK_PX)

    def read(self, window: Tile) -> NDArray[np.int32]:
        """Return the labels of a window, int32[h, w]; 0 is background. The window may extend beyond the image."""
        inside = Tile(
            max(window.y, 0),
            max(window.x, 0),
            min(window.y + window.height, self.height) - max(window.y, 0),
            min(window.x + window.width, self.width) - max(window.x, 0),
        )
        labels = self._read_inside(inside)
        if inside == window:
            return labels
        padded = np.zeros((window.height, window.width), np.int32)
        top, left = inside.y - window.y, inside.x - window.x
        padded[top : top + inside.height, left : left + inside.width] = labels
        return padded

    def resize(self, height: int, width: int) -> None:
        """Give the label map another size. Each pixel gets the instance at its centre.

        Instances that get no pixel are removed; the others are numbered again in the same order.

        Args:
            height: New height, in pixels.
            width: New width, in pixels.
        """
        if (height, width) == (self.height, self.width):
            return
        self.height, self.width = height, width
        there_height, there_width = self._sizes_there
        if height >= there_height and width >= there_width:
            return  # nothing can get lost
        is_left = np.zeros(len(self) + 1, np.bool_)
        for block in self.blocks():
            is_left[np.unique(self.read(block))] = True
        self.keep(is_left)

    def keep(self, is_left: NDArray[np.bool_]) -> None:
        """Remove all instances except some, which are numbered again in the same order.

        Args:
            is_left: bool[n + 1], whether each label stays; the value for the background is ignored.
        """
        is_left[0] = False
        number_of = np.where(is_left, np.cumsum(is_left), 0).astype(np.int32)
        self._number_of = number_of[self._number_of]
        self.scores = self.scores[is_left[1:]]
        if self.class_probabilities is not None:
            self.class_probabilities = self.class_probabilities[is_left[1:]]

    def _read_inside(self, window: Tile) -> NDArray[np.int32]:
        if (self.height, self.width) == self._sizes_there:
            return self._numbers(window)
        rows = _nearest(window.y, window.height, self.height, self._sizes_there[0])
        columns = _nearest(window.x, window.width, self.width, self._sizes_there[1])
        there = Tile(
            int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        )
        labels: NDArray[np.int32] = self._numbers(there)[np.ix_(rows - rows[0], columns - columns[0])]
        return labels

    def _numbers(self, window: Tile) -> NDArray[np.int32]:
        values = self._scratch.read(window)
        numbers: NDArray[np.int32] = self._number_of[np.maximum(values * self._sign, 0)]
        return numbers


def _nearest(start: int, length: int, size: int, size_there: int) -> NDArray[np.int64]:
    """Return which of `size_there` cells holds the centre of each of `length` cells, of `size`, from `start` on."""
    doubled = 2 * np.arange(start, start + length, dtype=np.int64) + 1
    return np.minimum(doubled * size_there // (2 * size), size_there - 1)
