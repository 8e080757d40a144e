"""A store seen as 0..255: each image normalised as a whole, the first time that it is requested.

Normalised images are in a scratch file without a name, with one byte for each value. It is in the folder of the stores,
or in the system's temporary folder if that one is read-only. It is mapped, so the page cache holds it, and private
memory does not grow with the data set. It is removed with the process, also after a kill. Every process has its own.
"""

import mmap
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.normalisation import Levels, Normalisation, levels_of
from searcher.data_pipeline.store.classes import ClassTable
from searcher.data_pipeline.store.mapped import Store

__all__ = ["normalised"]


def normalised(store: Store, normalisation: Normalisation) -> Store:
    """Return a store whose images are normalised to uint8, each when first used; the store itself if nothing changes.

    For a store that is already normalised, the stored images are normalised again.

    Args:
        store: As prepared.
        normalisation: The rule.
    """
    if isinstance(store, _NormalisedStore):
        return store if store.normalisation == normalisation else normalised(store.stored, normalisation)
    if store.dtype == "uint8" and not normalisation.depends_on_image:
        return store
    return _NormalisedStore(store, normalisation)


class _NormalisedStore(Store):
    """A store whose images are normalised. Threads may share one."""

    def __init__(self, store: Store, normalisation: Normalisation) -> None:
        super().__init__(store.path, store._index, store.class_table)
        self.dtype = "uint8"
        self.stored = store
        self.normalisation = normalisation
        sizes = [self._images[index].size for index in range(len(self))]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self._file = _scratch_file(store.path.parent, self._offsets[-1])
        self._bytes = np.frombuffer(
            mmap.mmap(self._file.fileno(), self._offsets[-1], access=mmap.ACCESS_READ), np.uint8
        )
        self._ready: list[NDArray[np.uint8] | None] = [None] * len(self)
        self._lock = threading.Lock()

    def with_classes(self, table: ClassTable) -> Store:
        """Return the store with the classes of its objects."""
        return normalised(self.stored.with_classes(table), self.normalisation)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return normalised, (self.stored, self.normalisation)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, normalised, as uint8[H, W, C]: a read-only view.

        Raises:
            DataError: There is no room on disk for the normalised image.
        """
        found = self._ready[index]
        if found is not None:
            return found
        with self._lock:
            found = self._ready[index]
            if found is None:
                found = self._ready[index] = self._made(index)
        return found

    def levels(self, index: int) -> Levels:
        """Return the values of image `index` that become 0 and 255."""
        return levels_of(self._images[index], self.normalisation)

    def _made(self, index: int) -> NDArray[np.uint8]:
        image = self._images[index]
        offset = self._offsets[index]
        values = memoryview(self.levels(index).apply(image).reshape(-1).data)
        try:
            while values:  # written, not mapped for writing: a full disk is an error then, and no signal
                written = os.pwrite(self._file.fileno(), values, offset)
                values, offset = values[written:], offset + written
        except OSError as error:
            raise DataError(
                f"{self.path.parent}: must have room for normalised images, {self._offsets[-1] / 2**30:.1f} GiB for "
                f"each trial that runs, got {error.strerror}; make room, or choose another SEARCHER_CACHE"
            ) from error
        return self._bytes[self._offsets[index] : self._offsets[index + 1]].reshape(image.shape)


def _scratch_file(folder: Path, num_bytes: int) -> IO[bytes]:
    try:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 it goes with the store
    except OSError:  # a cache folder may be read-only
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    file.truncate(num_bytes)
    return file
