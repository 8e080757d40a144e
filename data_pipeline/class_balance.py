"""Crops balanced by class: which image, and near which object, so that rare classes are seen as often as others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.store import Store

__all__ = ["Aims", "ClassBalance"]


class Aims(NamedTuple):
    """What the samples of an epoch are taken from."""

    order: NDArray[np.int64]
    """int64[n], the image of each sample, as an index of the store."""
    labels: NDArray[np.int64]
    """int64[n], the object that each crop is to show; 0 for a crop from anywhere."""


class ClassBalance:
    """Draws objects so that each class is equally often aimed at. Threads may share one.

    Args:
        store: With the classes of its objects.
        indices: Which of its images are trained on.
        share: Part of the samples that aim at an object, 0..1. The others are taken as without balance.
    """

    def __init__(self, store: Store, indices: Sequence[int], share: float) -> None:
        assert 0.0 <= share <= 1.0, share
        self._store = store
        self._share = share
        by_class: dict[int, list[tuple[int, int]]] = {}
        for index in indices:
            for label, number in store.class_table.of_images[index].items():
                by_class.setdefault(number, []).append((index, label))
        self._objects = [np.array(by_class[number], np.int64) for number in sorted(by_class)]
        self._places: dict[tuple[int, int], tuple[int, int]] = {}

    def aims(self, order: NDArray[np.int64], rng: np.random.Generator) -> Aims:
        """Return which image each sample is of, and which object it is to show.

        Args:
            order: int64[n], the images that the samples would have without balance.
            rng: Everything is drawn from it.
        """
        order, labels = order.copy(), np.zeros(len(order), np.int64)
        if self._objects:
            for sample in np.flatnonzero(rng.random(len(order)) < self._share):
                objects = self._objects[rng.integers(len(self._objects))]
                order[sample], labels[sample] = objects[rng.integers(len(objects))]
        return Aims(order, labels)

    def place(self, index: int, label: int) -> tuple[int, int]:
        """Return the middle of an object's bounding box: its row and column in the image."""
        key = (index, label)
        if key not in self._places:  # two threads that find the same at once do no harm
            rows, columns = np.nonzero(self._store.labels(index) == label)
            self._places[key] = (
                int(rows.min() + rows.max()) // 2,
                int(columns.min() + columns.max()) // 2,
            )
        return self._places[key]
