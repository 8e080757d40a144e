"""A trial's device: how batches get there, how much memory the trial may use, and how it keeps freed memory."""

import contextlib
import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from searcher.data_pipeline.batch import Batch
from searcher.models.values import TensorBatch

__all__ = ["keep_freed_memory", "keep_to_share", "to_device"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for `mallopt` (malloc.h)."""


def keep_to_share(device: torch.device, share: float) -> None:
    """Limit this process to a share of a GPU's memory, so that trials on the same GPU keep theirs.

    An allocation beyond the share fails with torch's `OutOfMemoryError`, as on a full GPU. Only torch's allocator is
    limited: the CUDA context needs about 0.5 GiB in addition. Nothing happens for a share of 1 or on the CPU.

    Args:
        device: Device that the trial trains on.
        share: Share of the device's memory, above 0 and up to 1.
    """
    assert 0.0 < share <= 1.0, share
    if device.type == "cuda" and share < 1.0:
        torch.cuda.set_per_process_memory_fraction(share, _index(device))


def keep_freed_memory(device: torch.device) -> None:
    """Make this process keep freed memory for the next step, if it trains on the CPU.

    By default glibc requests every tensor of a few MB from the system and returns it at once. Its pages are then
    cleared and mapped again in every step, which takes a tenth of a step (tests/benchmarks/freed_memory.py). The next
    step needs the same memory, so the process's peak hardly grows. But the memory stays allocated until the process
    ends. Other allocators than glibc's are not changed.
    """
    if device.type == "cpu":
        with contextlib.suppress(OSError, AttributeError):  # no glibc
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(_M_MMAP_THRESHOLD, 2**30)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _index(device: torch.device) -> int:
    """Return which of the GPUs it is: where it does not say, the one that this process takes."""
    return torch.cuda.current_device() if device.index is None else device.index


def to_device(batch: Batch, device: torch.device) -> TensorBatch:
    """Return a batch as tensors on a device, uint8 images and int32 labels; on the CPU they are views of the batch."""
    images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
    if device.type == "cuda":
        # Page-locked memory lets the copy run beside the GPU's work, and frees the stream's buffers at once.
        images = images.pin_memory().to(device, non_blocking=True)
        labels = labels.pin_memory().to(device, non_blocking=True)
    classes = None if batch.classes is None else _padded(batch.classes).to(device)
    return TensorBatch(images=images, labels=labels, classes=classes)


def _padded(classes: Sequence[NDArray[np.int32]]) -> torch.Tensor:
    """Return int64[B, L], the tables of a batch's images as one, as long as the longest; 0 is no class."""
    padded = torch.zeros((len(classes), max(len(table) for table in classes)), dtype=torch.int64)
    for row, table in zip(padded, classes, strict=True):
        row[: len(table)] = torch.from_numpy(table)
    return padded
