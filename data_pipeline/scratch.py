"""Arrays larger than memory: in a file, read and written window by window.

A scratch file is unlinked before anything is written into it, so it vanishes with the process, however that ends.
Nothing is memory-mapped. Mapped pages would count as the process's memory, and a full disk would kill the process
(SIGBUS). A written byte raises an `OSError` instead.
"""

import math
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.tiling import Tile

__all__ = ["Closing", "FileArray", "ScratchArray"]

_RELEASE_S = 0.02

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Closing:
    """A context manager that calls `close` at its end. Subclasses with something to close override `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close everything that is held open; nothing by default."""


class FileArray(Closing, Generic[_Scalar]):
    """An uncompressed array [height, width, *tail] in a file, stored row by row. A context manager.

    Args:
        file: The open, unbuffered file; closed together with the array.
        offset: Position of the array's first byte in the file.
        shape: Height, width, and perhaps further axes.
        dtype: Type of the elements.
    """

    def __init__(
        self, file: IO[bytes], offset: int, shape: tuple[int, ...], dtype: type[_Scalar] | np.dtype[_Scalar]
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._file = file
        self._offset = offset
        self._pixel_bytes = math.prod(shape[2:]) * self.dtype.itemsize

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, window: Tile) -> NDArray[_Scalar]:
        """Return a copy of a window, [h, w, *tail]. The window must lie inside the array.

        Raises:
            OSError: The file cannot be read, or is too short.
        """
        values: NDArray[_Scalar] = np.empty((window.height, window.width, *self.shape[2:]), self.dtype)
        for offset, part in self._runs(window, values):
            _read_all(self._file.fileno(), part, offset)
        return values

    def _runs(self, window: Tile, values: NDArray[Any]) -> list[tuple[int, memoryview]]:
        """Return what of contiguous `values` lies together on disk, with its offset there: rows, or all of them."""
        height, width = self.shape[:2]
        assert 0 <= window.y <= window.y + window.height <= height, window
        assert 0 <= window.x <= window.x + window.width <= width, window
        if not values.size:
            return []
        view = memoryview(values.reshape(-1).view(np.uint8).data)
        start = self._offset + (window.y * width + window.x) * self._pixel_bytes
        if window.width == width:
            return [(start, view)]
        row, stride = window.width * self._pixel_bytes, width * self._pixel_bytes
        return [(start + n * stride, view[n * row : (n + 1) * row]) for n in range(window.height)]


class ScratchArray(FileArray[_Scalar]):
    """An array [height, width, *tail] in a temporary file without a name; 0 where nothing was written.

    Args:
        shape: Height, width, and perhaps further axes.
        dtype: Type of the elements.
        folder: Folder with room for the file.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: type[_Scalar] | np.dtype[_Scalar], folder: Path
    ) -> None:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed with the array
        super().__init__(file, 0, shape, dtype)
        file.truncate(self.num_bytes)

    @property
    def num_bytes(self) -> int:
        """Size of the file on disk in bytes, once all is written."""
        return math.prod(self.shape[:2]) * self._pixel_bytes

    def write(self, window: Tile, values: NDArray[_Scalar]) -> None:
        """Write a window, [h, w, *tail]. The window must lie inside the array.

        Raises:
            OSError: The file cannot be written, for example because the disk is full.
        """
        assert values.shape == (window.height, window.width, *self.shape[2:]), (values.shape, window)
        for offset, part in self._runs(window, np.ascontiguousarray(values, self.dtype)):
            _write_all(self._file.fileno(), part, offset)

    @contextmanager
    def mapped(self) -> Iterator[NDArray[_Scalar]]:
        """Yield the whole array mapped into memory, for code that writes into an array and cannot write windows.

        Disk space is allocated first if the system can, so that a full disk is an error and does not kill the process.
        On Linux, written pages are released from the process's memory regularly: their content is in the file.
        """
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, self.num_bytes)
        area = mmap.mmap(self._file.fileno(), self.num_bytes)
        is_done = threading.Event()

        def release() -> None:
            while not is_done.wait(_RELEASE_S):
                area.madvise(mmap.MADV_DONTNEED)  # of a shared mapping, no byte is lost

        releasing = threading.Thread(target=release, name="scratch", daemon=True)
        if sys.platform == "linux":
            releasing.start()
        try:
            yield np.frombuffer(area, self.dtype).reshape(self.shape)
        finally:
            is_done.set()
            if releasing.ident is not None:
                releasing.join()
            area.flush()  # not closed here: the caller may hold the array until it returns


def _read_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        num_read = os.preadv(descriptor, [view], offset)
        if not num_read:
            raise OSError("the file ended early")
        view, offset = view[num_read:], offset + num_read


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        num_written = os.pwrite(descriptor, view, offset)
        view, offset = view[num_written:], offset + num_written
