"""A store that is open: images and label maps as read-only views of the mapped files."""

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DamagedStoreError, DataError
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.store.classes import NO_CLASSES, ClassTable, find_classes
from searcher.data_pipeline.store.index import LABELS, PIXELS, Index, StoreEntry, read_index
from searcher.data_pipeline.store.integrity import check_content, check_once_a_boot, identity_of

__all__ = ["Store"]


class Store:
    """A decoded data set whose files are mapped into memory read-only.

    Open one with `Store.open`, build one with `prepare_store`. Threads may share a store. Pickling a store sends its
    path: the other process maps the same files.
    """

    def __init__(self, path: Path, index: Index, classes: ClassTable = NO_CLASSES) -> None:
        self.path = path
        self.class_table = classes
        """The classes of the objects; empty where nobody asked for them, or the data set has none."""
        self.fingerprint = index.fingerprint
        self.channels = index.channels
        self.dtype: Literal["uint8", "uint16"] = "uint16" if index.dtype == "uint16" else "uint8"
        self.samples: Sequence[Sample] = tuple(entry.sample for entry in index.entries)
        self.remarks = index.remarks
        self._index = index
        self._identity = identity_of(path)
        self._pixels_map = _map(path / PIXELS, index.pixels_bytes)
        self._labels_map = _map(path / LABELS, index.labels_bytes)
        # The views are made once: `image` and `labels` are called for every sample of every epoch.
        views = [self._view(entry) for entry in index.entries]
        self._images = [image for image, _ in views]
        self._labels = [labels for _, labels in views]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Return the store in a folder. Its content is compared with its digests once after each start of the machine.

        Raises:
            DamagedStoreError: The files hold other bytes than were written.
            DataError: There is no store, a file is missing or of another size, or the index is damaged or of another
                format.
        """
        return cls._open(path, is_compared=True)

    @classmethod
    def open_unchecked(cls, path: Path) -> "Store":
        """Return the store in a folder without comparing its content with its digests; see `compare`.

        Raises:
            DataError: There is no store, a file is missing or of another size, or the index is damaged or of another
                format.
        """
        return cls._open(path, is_compared=False)

    @classmethod
    def _open(cls, path: Path, *, is_compared: bool) -> "Store":
        try:
            index = read_index(path)
            for file, size in ((PIXELS, index.pixels_bytes), (LABELS, index.labels_bytes)):
                actual = (path / file).stat().st_size
                if actual != size:
                    raise DataError(
                        f"{path / file}: must be {size} bytes, got {actual}; remove {path} and prepare it again"
                    )
            store = cls(path, index)
            if is_compared:
                check_once_a_boot(path, index, store._view)
            return store
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename}: a store needs this file, got nothing; prepare the data set again"
            ) from error
        except OSError as error:
            raise DataError(
                f"{path}: the store must be readable, got {error.strerror}; check its mode"
            ) from error

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Store({self.fingerprint[:12]}, {len(self)} images, {str(self.path)!r})"

    def __reduce__(self) -> tuple[Callable[[Path, str], "Store"], tuple[Path, str]]:
        return _reopened, (self.path, self.class_table.digest)

    @property
    def has_digests(self) -> bool:
        """Whether the store has digests of its content. Stores of old versions have none."""
        return self._index.has_digests

    def image(self, index: int) -> Pixels:
        """Return image `index` as `dtype`[H, W, C], a read-only view. Its C channels are those in `channels`."""
        return self._images[index]

    def labels(self, index: int) -> NDArray[np.uint16] | NDArray[np.int32]:
        """Return label map `index` as uint16 or int32[H, W], a read-only view; -1 where nothing is annotated."""
        return self._labels[index]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the objects' classes, class 1 first; empty where they are not known."""
        return self.class_table.names

    def classes(self, index: int) -> NDArray[np.int32]:
        """Return the class of each label of an image: int32[highest label + 1], 0 where there is none."""
        return self.class_table.of_labels(index, int(self.labels(index).max(initial=0)))

    def with_classes(self, table: ClassTable) -> "Store":
        """Return this store with a table of the objects' classes.

        Args:
            table: The table, of as many images as the store has, or empty.
        """
        assert not table.names or len(table.of_images) == len(self), (len(table.of_images), len(self))
        return Store(self.path, self._index, table)

    def indices(self, split: str) -> list[int]:
        """Return the indices of the samples in one split, ascending; empty if there are none."""
        return [i for i, sample in enumerate(self.samples) if sample.split == split]

    def compare(self) -> None:
        """Compare all content with its digests, even if that was done before. Takes a second for each gigabyte.

        Raises:
            DamagedStoreError: An image or label map differs from its digest.
        """
        check_content(self.path, self._index, self._view)

    def check_unchanged(self) -> None:
        """Compare all content with its digests if a file was written since the last comparison; otherwise do nothing.

        Raises:
            DamagedStoreError: An image or label map differs from its digest. Or a store without digests was written to.
        """
        try:
            identity = identity_of(self.path)
        except OSError:
            return  # removed, or out of reach: what is mapped stays as it is
        if identity == self._identity:
            return
        if self.has_digests:
            self.compare()
        elif _is_written(self._identity, identity):
            raise DamagedStoreError(
                f"{self.path}: nobody may write into a store, got files that were written to since it was opened; "
                "remove the folder and prepare the data set again"
            )
        self._identity = identity

    def _view(self, entry: StoreEntry) -> tuple[NDArray[Any], NDArray[Any]]:
        shape = (*entry.shape, len(self.channels))  # as they are stored, whatever `dtype` of a subclass says
        dtype = np.dtype(self._index.dtype).newbyteorder("<").str
        return (
            np.ndarray(shape, dtype=dtype, buffer=self._pixels_map, offset=entry.pixels_offset),
            np.ndarray(
                entry.shape, dtype=entry.labels_dtype, buffer=self._labels_map, offset=entry.labels_offset
            ),
        )


def _reopened(path: Path, class_digest: str) -> Store:
    """Return the store in a folder with the classes that it was sent with."""
    store = Store.open(path)
    table = find_classes(path, class_digest) if class_digest else NO_CLASSES
    if table is None:
        raise DataError(
            f"{path}: the store must have its table of classes, got none; prepare the data set again"
        )
    return store.with_classes(table) if table.names else store


def _is_written(before: list[list[int]], after: list[list[int]]) -> bool:
    """Return whether the same file has other content, by its size and the time of the last write."""
    return any(old[0] == new[0] and old[1:3] != new[1:3] for old, new in zip(before, after, strict=True))


def _map(path: Path, size: int) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), dtype=np.uint8)
