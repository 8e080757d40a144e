"""What a person looks at to judge a trial: its worst validation images, and how it learned."""

import dataclasses
import heapq
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from searcher.atomic_files import write_atomically
from searcher.data_pipeline.store import Store
from searcher.evaluation.official_metrics import compare, pooled
from searcher.inference.trained import predictor_of
from searcher.report.pictures import learning_curve, overlay_jpeg
from searcher.training.alive import Alive, silent
from searcher.training.checkpoints import CheckpointFile, load_checkpoint
from searcher.training.trained import trained_model, trained_network

__all__ = ["LEARNING_CURVE", "draw_learning_curve", "draw_worst_images"]

LEARNING_CURVE = "learning-curve.png"


def draw_worst_images(
    file: CheckpointFile,
    store: Store,
    val_indices: Sequence[int],
    device: torch.device,
    folder: Path,
    *,
    num_images: int,
    alive: Alive = silent,
) -> list[str]:
    """Write pictures of the validation images with the lowest object Dice, the worst first, and return their names.

    Instances are cut as in the epoch's validation, not with the tuned settings, so that they agree with the trial's
    value.

    Args:
        file: The checkpoint.
        store: The store with the normalised images.
        val_indices: Indices of the validation images.
        device: Device to predict on.
        folder: Folder for the pictures, JPEG files; their names hold rank, object Dice and the image's id.
        num_images: Largest number of images to draw.
        alive: Called before every image.

    Returns:
        The names of the files.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        OSError: A picture could not be written.
    """
    worst = _worst_images(file, store, val_indices, device, num_images, alive)
    names = []
    for rank, (dice, index, prediction) in enumerate(worst, start=1):
        truth = np.array(store.labels(index), dtype=np.int32)
        picture = overlay_jpeg(np.array(store.image(index)), truth, prediction)
        image_id = re.sub(r"[^\w.-]+", "-", store.samples[index].id)[:60]
        names.append(f"worst-{rank}-dice-{dice:.3f}-{image_id}.jpg")
        _write(folder / names[-1], picture)
    return names


def draw_learning_curve(
    history: Sequence[Mapping[str, float | None]], folder: Path, *, best_epoch: int
) -> list[str]:
    """Write a picture of losses and metrics by epoch, and return its name in a list.

    Args:
        history: Metrics of each epoch with its number `epoch`, from `read_history`.
        folder: Folder for the picture, a PNG file.
        best_epoch: Number of the epoch to mark.

    Returns:
        The name of the file.

    Raises:
        OSError: The file could not be written.
    """
    _write(folder / LEARNING_CURVE, learning_curve(history, best_epoch=best_epoch))
    return [LEARNING_CURVE]


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda writer: writer.write(content))


def _worst_images(
    file: CheckpointFile,
    store: Store,
    val_indices: Sequence[int],
    device: torch.device,
    num_images: int,
    alive: Alive,
) -> list[tuple[float, int, NDArray[np.int32]]]:
    """Return object Dice, index and predicted label map of the worst images, the worst first.

    It handles one image at a time, and keeps only the label maps that are needed so far. So memory does not grow with
    the images.
    """
    checkpoint, _ = load_checkpoint(file.path, sha256=file.sha256)
    untuned = dataclasses.replace(checkpoint, tuned=None)
    predictor = predictor_of(
        [trained_network(untuned)], [trained_model(untuned, device=device)], device=device
    )
    heap: list[
        tuple[float, int, NDArray[np.int32]]
    ] = []  # the least bad on top; no two have an index in common
    for num_done, index in enumerate(val_indices):
        alive("pictures", f"looking for the worst images, {num_done + 1} of {len(val_indices)}")
        labels = predictor.cut(predictor.see(np.array(store.image(index)))).labels
        truth = np.array(store.labels(index), dtype=np.int32)
        dice = pooled([compare(truth, labels, hausdorff=False, only=())])["object_dice"]
        heapq.heappush(heap, (-dice, -index, labels))
        if len(heap) > num_images:
            heapq.heappop(heap)
    return [(-dice, -index, labels) for dice, index, labels in sorted(heap, reverse=True)]
