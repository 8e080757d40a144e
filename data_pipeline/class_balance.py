"""Crops balanced by class: which image, and near which object, so that rare classes are seen as often as others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.store import Store

__all__ = ["Aims", "ClassBalance"]


class Aims(NamedTuple):
    """The images and objects that the crops of an epoch are drawn from."""

    order: NDArray[np.int64]
    """int64[n], the image of each sample, as an index of the store."""
    labels: NDArray[np.int64]
    """int64[n], the object that each crop is to show; 0 for a crop from anywhere."""


class ClassBalance:
    """Draws objects such that each class is drawn equally often. Threads may share one.

    Args:
        store: The images, with the classes of their objects.
        indices: Indices of the images that are trained on.
        share: Fraction of the crops that show a drawn object, from 0 to 1. The others are not changed.
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
        """Replace a random fraction of an epoch's crops by crops that show an object of a drawn class.

        Args:
            order: int64[n], the image of each crop without balance, as an index of the store.
            rng: The source of all random numbers.

        Returns:
            For each crop its image, and its object if it was replaced.
        """
        order, labels = order.copy(), np.zeros(len(order), np.int64)
        if self._objects:
            for sample in np.flatnonzero(rng.random(len(order)) < self._share):
                objects = self._objects[rng.integers(len(self._objects))]
                order[sample], labels[sample] = objects[rng.integers(len(objects))]
        return Aims(order, labels)

    def place(self, index: int, label: int) -> tuple[int, int]:
        """Return the row and column of the centre of an object's bounding box.

        Args:
            index: Index of the image in the store.
            label: Label of the object.
        """
        key = (index, label)
        if key not in self._places:  # two threads that find the same at once do no harm
            rows, columns = np.nonzero(self._store.labels(index) == label)
            self._places[key] = (
                int(rows.min() + rows.max()) // 2,
                int(columns.min() + columns.max()) // 2,
            )
        return self._places[key]
