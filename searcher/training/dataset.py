"""Which images a study runs on, in a form that travels to a worker and is opened there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from searcher.data_pipeline.datasets.samples import SampleSource
from searcher.data_pipeline.datasets.synthetic import SYNTHETIC
from searcher.data_pipeline.datasets.view import DataView, viewed
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.splits import Split, split_by_group
from searcher.data_pipeline.store import Store, find_classes, prepare_store
from searcher.exceptions import StorageError
from searcher.storage.fetched_data import open_data
from searcher.study.config import DataConfig
from searcher.training.class_data import classed

__all__ = [
    "SAME_SCALE",
    "VALIDATION",
    "DataRequest",
    "common_pixel_size",
    "given_validation",
    "split_store",
    "trained_on",
]

VALIDATION = ("val", "valid", "validation")
"""Names of a split that is validated on."""
SAME_SCALE = 1.25
"""Largest ratio of two pixel sizes that count as one scale."""


@dataclass(frozen=True)
class DataRequest:
    """A data set as the user named it, and the folder of its store. Plain values, which can be sent to workers."""

    folder: str | None
    """The data set's folder, or the URI of one in an object store; None for synthetic images."""
    cache_dir: str
    """Folder of the stores on every node."""
    synthetic: DataConfig
    """Kind, size and seed of synthetic images, and which classes are learned."""
    view: DataView = field(default_factory=DataView)
    """How the folder's labels, patients and pixel sizes are read."""

    def source(self, progress: Callable[[int, int], None] | None = None) -> SampleSource:
        """Return the data set, after downloading it if it is in an object store.

        Raises:
            DataError: The folder is missing, empty, of no known layout, or cannot be downloaded.
        """
        if self.folder is not None:
            try:
                source = open_data(self.folder, Path(self.cache_dir), progress=progress)
                return viewed(source, self.view)
            except StorageError as error:
                raise DataError(str(error)) from error
        return SYNTHETIC[self.synthetic.synthetic](
            num_images=self.synthetic.synthetic_images,
            size_px=self.synthetic.synthetic_size_px,
            seed=self.synthetic.synthetic_seed,
        )

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> Store:
        """Return the data set's store, building it first if it does not exist.

        Raises:
            DataError: An image or annotation cannot be used.
        """
        source, learned = self.source(progress), self.synthetic.learn_classes
        store = prepare_store(source, Path(self.cache_dir), progress=progress, with_classes=learned)
        if learned and not store.class_names:
            made = " (--labels-are makes objects of its own)" if self.view.labels_are else ""
            raise DataError(
                f"--data {self.folder}: data.learn_classes needs the class of each object, got none{made}; add "
                "objects.csv (image, label, class), or set data.learn_classes=false"
            )
        return store

    def open(self, fingerprint: str) -> Store:
        """Return the store with a fingerprint, which the driver prepared; a node without it builds its own.

        Raises:
            DataError: The data folder on this node holds other data than the driver's.
        """
        path = Path(self.cache_dir) / fingerprint
        is_there = path.is_dir() and self._has_classes(path)
        store = Store.open(path) if is_there else self.prepare()
        if store.fingerprint != fingerprint:
            raise DataError(
                f"--data {self.folder}: must hold the same files on every node, "
                f"got {store.fingerprint[:12]} where the driver has {fingerprint[:12]}; copy the folder anew"
            )
        return classed(store, self.synthetic)

    def _has_classes(self, path: Path) -> bool:
        """Return whether a store has the classes that the driver has, or none are learned."""
        if not self.synthetic.learn_classes:
            return True
        return find_classes(path, self.synthetic.class_digest) is not None


def given_validation(store: Store) -> list[int]:
    """Return the indices of the images in the data set's own validation split, ascending; empty without one."""
    return sorted(index for name in VALIDATION for index in store.indices(name))


def trained_on(store: Store) -> list[int]:
    """Return the indices of all images used for training or validation in any fold, ascending."""
    return sorted([*store.indices("train"), *given_validation(store)])


def split_store(store: Store, config: DataConfig) -> Split:
    """Return the indices of the training and of the validation images. No patient is in both.

    If the data set has a split `val` (or `valid`, `validation`), that is used for validation; folds are made of it and
    `train` together. Without one, a part of `train` is used for validation.

    Raises:
        DataError: The images cannot be split as configured.
    """
    train, given = store.indices("train"), given_validation(store)
    if not train:
        there = ", ".join(dict.fromkeys(sample.split for sample in store.samples))
        raise DataError(
            f"splits: some images must be of the split train, got only {there}; correct samples.csv"
        )
    if given and not config.folds:
        _check_apart(store, train, given)
        return Split(tuple(train), tuple(given))
    return split_by_group(
        store.samples,
        sorted([*train, *given]),
        fraction=config.val_fraction,
        folds=config.folds,
        fold=config.fold,
        seed=config.split_seed,
    )


def common_pixel_size(store: Store, indices: Sequence[int]) -> float | None:
    """Return the median pixel size of some images in micrometres; None if one is unknown or they differ in scale."""
    sizes = [store.samples[index].pixel_size_um for index in indices]
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes) or max(known) > SAME_SCALE * min(known):
        return None
    return float(np.median(known))


def _check_apart(store: Store, train: list[int], given: list[int]) -> None:
    both = sorted({store.samples[i].group for i in train} & {store.samples[i].group for i in given})
    if both:
        shown = ", ".join(both[:5]) + (", .." if len(both) > 5 else "")
        raise DataError(
            f"splits: a patient must be trained on or validated on, got {shown} ({len(both)} patients) in "
            f"{store.samples[train[0]].split} and {store.samples[given[0]].split}; move their images to one of the two"
        )
