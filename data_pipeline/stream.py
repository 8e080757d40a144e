"""The streaming batch generator: crops from the store, augmented by threads, a batch at a time.

Threads write straight into a ring of preallocated batch buffers; OpenCV and NumPy release the interpreter while
they work on pixels. The ring bounds the memory for data sets of any size. What sample n of an epoch looks
like depends on (seed, epoch, n) alone.
"""

import inspect
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.augment import Augmentation
from searcher.data_pipeline.augmentation import Reflections
from searcher.data_pipeline.batch import Batch
from searcher.data_pipeline.class_balance import Aims, ClassBalance
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.store import Store

__all__ = ["BatchStream"]

logger = logging.getLogger(__name__)

# Streams of random numbers that must not meet: the order of an epoch, and the augmentation of its samples.
_ORDER, _AUGMENT, _BALANCE = 0, 1, 2


class BatchStream:
    """Returns batches of augmented crops, epoch by epoch. Use it as a context manager, or call `close`.

    In an epoch, all images are used equally often: the images are shuffled again and again until there are
    `samples_per_epoch` samples. A stream with threads switches off OpenCV's own threads for the whole process.
    Otherwise there would be more threads than cores.

    Args:
        store: The store with the images.
        indices: Indices of the samples to use.
        batch_size: Samples per batch; an epoch's last batch may have fewer.
        samples_per_epoch: Number of samples in an epoch; 0 for the number of `indices`.
        augmentation: Makes a crop from each image.
        seed: Seed of the order and of the augmentation.
        num_threads: Number of threads that make crops; with 0, the caller's thread makes them when a batch is
            requested.
        prefetch: Number of batches to make ahead of the requested one.
        with_classes: Give each batch the classes of its objects. The store must have them.
        class_balance: Part of the crops, 0..1, that are taken around an object; each class is aimed at equally often.
            0 takes images equally often, and crops from anywhere. Needs `with_classes`.

    Raises:
        DataError: `indices` is empty.
    """

    def __init__(
        self,
        store: Store,
        indices: Sequence[int],
        *,
        batch_size: int,
        samples_per_epoch: int = 0,
        augmentation: Augmentation,
        seed: int,
        num_threads: int = 2,
        prefetch: int = 2,
        with_classes: bool = False,
        class_balance: float = 0.0,
    ) -> None:
        assert batch_size >= 1, batch_size
        assert samples_per_epoch >= 0, samples_per_epoch
        assert num_threads >= 0, num_threads
        assert prefetch >= 0, prefetch
        assert seed >= 0, seed
        assert not with_classes or store.class_names, "the store must have classes"
        assert with_classes or not class_balance, class_balance
        if not indices:
            raise DataError(f"{store.path}: a stream needs at least one image, got none; check the split")
        self._store = store
        self._indices = np.asarray(indices, dtype=np.int64)
        self._batch_size = batch_size
        self._num_samples = samples_per_epoch or len(indices)
        self._augmentation = augmentation
        self._seed = seed
        self._with_classes = with_classes
        self._balance = ClassBalance(store, indices, class_balance) if class_balance else None
        self._ring = [
            _Buffer(batch_size, augmentation.crop_px, len(store.channels), store.dtype)
            for _ in range(prefetch + 2 if num_threads else 1)
        ]
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._run: _Run | None = None
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks,), name=f"stream-{n}", daemon=True)
            for n in range(num_threads)
        ]
        self._stop = weakref.finalize(self, _stop_threads, self._tasks, self._threads)
        if num_threads and cv2.getNumThreads() > 1:
            logger.info("OpenCV's own threads are switched off; the stream uses %d threads", num_threads)
            cv2.setNumThreads(1)
        for thread in self._threads:
            thread.start()

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        return -(-self._num_samples // self._batch_size)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Return an iterator over the batches of one epoch, from batch `start_batch` on.

        The result for a batch does not depend on `start_batch`. The iterator need not be used to its end; starting
        another epoch ends it.

        Args:
            epoch: Number of the epoch, from 0.
            start_batch: Number of batches to skip, from 0 to `num_batches`.

        Raises:
            DataError: (while iterating) A sample could not be made; the message names it.
        """
        assert epoch >= 0, epoch
        assert 0 <= start_batch <= self.num_batches, (start_batch, self.num_batches)
        if not self._stop.alive:
            raise RuntimeError("the stream is closed")
        self._end_run()
        self._run = _Run(
            self._store,
            self._augmentation,
            self._seed,
            epoch,
            self._order(epoch),
            with_classes=self._with_classes,
            balance=self._balance,
        )
        return self._batches(self._run, start_batch)

    def close(self) -> None:
        """Stop and join all threads. A running epoch ends. May be called again."""
        self._end_run()
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return which sample of the store each sample of an epoch is: int64[samples per epoch]."""
        rng = np.random.default_rng((self._seed, _ORDER, epoch))
        passes = -(-self._num_samples // len(self._indices))
        shuffled = [rng.permutation(self._indices) for _ in range(passes)]
        return np.concatenate(shuffled)[: self._num_samples]

    def _batches(self, run: "_Run", start_batch: int) -> Iterator[Batch]:
        submitted = start_batch
        try:
            for number in range(start_batch, self.num_batches):
                if run.cancelled:
                    raise RuntimeError("another epoch of this stream was started, or it was closed")
                # The buffer of the batch handed out before is free again now.
                while submitted < min(number + len(self._ring), self.num_batches):
                    self._submit(run, submitted)
                    submitted += 1
                buffer = self._ring[number % len(self._ring)]
                buffer.ready.wait()
                if buffer.error is not None:
                    raise buffer.error
                yield buffer.batch(run)
        finally:
            if self._run is run:
                self._end_run()

    def _submit(self, run: "_Run", number: int) -> None:
        """Hand out the samples of a batch, or make them here when there are no threads."""
        first = number * self._batch_size
        size = min(self._batch_size, self._num_samples - first)
        buffer = self._ring[number % len(self._ring)]
        buffer.reset(first, size)
        for slot in range(size):
            task = _Task(run, buffer, slot)
            if self._threads:
                self._tasks.put(task)
            else:
                task.do()

    def _end_run(self) -> None:
        """Cancel the running epoch and wait until no thread writes to its buffers."""
        run, self._run = self._run, None
        if run is None:
            return
        run.cancelled = True
        for buffer in self._ring:
            buffer.ready.wait()


class _Run:
    """One epoch being streamed: what its samples are made from."""

    def __init__(
        self,
        store: Store,
        augmentation: Augmentation,
        seed: int,
        epoch: int,
        order: NDArray[np.int64],
        *,
        with_classes: bool,
        balance: ClassBalance | None,
    ) -> None:
        self._aims: Aims | None = None
        if balance is not None:
            self._aims = balance.aims(order, np.random.default_rng((seed, _BALANCE, epoch)))
        self.order = order if self._aims is None else self._aims.order
        self.cancelled = False
        self.store = store
        self.with_classes = with_classes
        self._balance = balance
        self._takes_near = "near" in inspect.signature(augmentation).parameters
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = epoch

    def make(self, number: int, image: Pixels, labels: NDArray[np.int32]) -> NDArray[np.int32] | None:
        """Make sample `number` of the epoch, and write it into `image` and `labels`; return the classes of its labels.

        None where classes are not learned.

        Raises:
            DataError: The sample could not be made; the message names it.
        """
        index = int(self.order[number])
        rng = np.random.default_rng((self._seed, _AUGMENT, self._epoch, number))
        aimed = self._aimed(number, index)
        try:
            reflections = self._augmentation(
                self.store.image(index), self.store.labels(index), rng, image, labels, **aimed
            )
            return _with_reflections(self.store.classes(index), reflections) if self.with_classes else None
        except Exception as error:
            raise DataError(
                f"{self.store.path}: sample {self.store.samples[index].id} must give a crop, got "
                f"{type(error).__name__}: {' '.join(str(error).split())}; check the image and the augmentation"
            ) from error

    def _aimed(self, number: int, index: int) -> dict[str, Any]:
        """Return where the crop of a sample is to be taken, as far as the augmentation can be told."""
        if self._balance is None or self._aims is None or not self._takes_near:
            return {}
        label = int(self._aims.labels[number])
        return {"near": self._balance.place(index, label)} if label else {}


def _with_reflections(classes: NDArray[np.int32], reflections: Reflections) -> NDArray[np.int32]:
    """Return the classes of a crop's labels: int32[highest label + 1], those of reflections as of their objects.

    Args:
        classes: Of the image's labels.
        reflections: See `Augmentation`. Such a label may be that of another object of the image, outside the crop.
    """
    if not reflections:
        return classes
    found = np.zeros(max(len(classes), max(reflections) + 1), np.int32)
    found[: len(classes)] = classes
    for label, reflected in reflections.items():
        found[label] = classes[reflected]
    return found


class _Buffer:
    """The memory of one batch, and how far it is filled."""

    def __init__(self, batch_size: int, crop_px: int, num_channels: int, dtype: str) -> None:
        self._images: Pixels = np.empty((batch_size, crop_px, crop_px, num_channels), dtype=dtype)
        self._labels = np.empty((batch_size, crop_px, crop_px), dtype=np.int32)
        self._classes: list[NDArray[np.int32] | None] = [None] * batch_size
        self._lock = threading.Lock()
        self._first = self._size = self._missing = 0
        self.ready = threading.Event()
        self.ready.set()
        self.error: DataError | None = None

    def reset(self, first: int, size: int) -> None:
        """Start a new batch of `size` samples; `first` is the number of its first sample in the epoch."""
        self._first, self._size, self._missing = first, size, size
        self.error = None
        self.ready.clear()

    def fill(self, run: _Run, slot: int) -> None:
        """Make one sample of the batch. The thread that makes the last one marks the batch as ready."""
        try:
            if not run.cancelled and self.error is None:
                self._classes[slot] = run.make(self._first + slot, self._images[slot], self._labels[slot])
        except DataError as error:
            self.error = error
        finally:
            with self._lock:
                self._missing -= 1
                if self._missing == 0:
                    self.ready.set()

    def batch(self, run: _Run) -> Batch:
        """Return the finished batch, as views of this buffer."""
        indices = run.order[self._first : self._first + self._size]
        ids = tuple(run.store.samples[i].id for i in indices)
        classes = None
        if run.with_classes:
            classes = tuple(each for each in self._classes[: self._size] if each is not None)
            assert len(classes) == self._size, "every sample must have classes"
        return Batch(self._images[: self._size], self._labels[: self._size], ids, classes)


class _Task:
    """One sample to make. Refers to no stream, so that a forgotten stream can be collected."""

    __slots__ = ("_buffer", "_run", "_slot")

    def __init__(self, run: _Run, buffer: _Buffer, slot: int) -> None:
        self._run, self._buffer, self._slot = run, buffer, slot

    def do(self) -> None:
        self._buffer.fill(self._run, self._slot)


def _work(tasks: "SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        task.do()


def _stop_threads(tasks: "SimpleQueue[_Task | None]", threads: list[threading.Thread]) -> None:
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        if thread is not threading.current_thread():  # the garbage collector may run this in any thread
            thread.join()
