"""What a person looks at to judge a trial: its worst validation images, and how it learned."""

import dataclasses
import heapq
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.store import Store
from searcher.evaluation.metrics import compare, pooled
from searcher.files import write_atomically
from searcher.inference.precision import resolve_precision
from searcher.inference.predictor import Predictor
from searcher.report.overlays import overlay
from searcher.study.config import TrialConfig
from searcher.training.checkpoints import CheckpointFile, load_checkpoint
from searcher.training.trained import trained_model

__all__ = ["LEARNING_CURVE", "draw_learning_curve", "draw_worst_images"]

LEARNING_CURVE = "learning-curve.png"
_METRICS = ("pixel_dice", "object_f1", "object_dice")
_LONGEST_SIDE_PX = 1024
"""Of a picture: it is to be looked at in a browser, not measured."""


def draw_worst_images(
    file: CheckpointFile,
    config: TrialConfig,
    store: Store,
    val_indices: Sequence[int],
    device: torch.device,
    folder: Path,
    *,
    num_images: int,
) -> list[str]:
    """Draw what a checkpoint finds in the validation images with the lowest object Dice, the worst first.

    Instances are cut as in the validation of its epoch, not as tuned afterwards: they go with the trial's value.

    Args:
        file: The checkpoint.
        config: What it was trained with.
        store: Prepared images.
        val_indices: Those that it was not trained on.
        device: Where to predict.
        folder: Where the pictures go, as JPEG; their names hold rank, object Dice and the image's id.
        num_images: How many to draw at most.

    Returns:
        The files' names.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        OSError: A picture could not be written.
    """
    worst = _worst_images(file, config, store, val_indices, device, num_images)
    names = []
    for rank, (dice, index, prediction) in enumerate(worst, start=1):
        truth = np.array(store.labels(index), dtype=np.int32)
        picture = Image.fromarray(overlay(np.array(store.image(index)), truth, prediction))
        picture.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=90, subsampling=0)  # outlines keep their colour
        image_id = re.sub(r"[^\w.-]+", "-", store.samples[index].id)[:60]
        names.append(f"worst-{rank}-dice-{dice:.3f}-{image_id}.jpg")
        _write(folder / names[-1], content)
    return names


def draw_learning_curve(
    history: Sequence[Mapping[str, float | None]], folder: Path, *, best_epoch: int
) -> list[str]:
    """Draw losses and metrics by epoch as PNG.

    Args:
        history: Metrics of each epoch, and `epoch`, as `read_history` gives them.
        folder: Where the picture goes.
        best_epoch: The epoch to mark.

    Returns:
        The file's name.

    Raises:
        OSError: It could not be written.
    """
    figure = Figure(figsize=(8.0, 3.2), dpi=110, layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    _draw(losses, history, ("train_loss", "loss"), ("training loss", "validation loss"), best_epoch)
    _draw(metrics, history, _METRICS, ("pixel Dice", "object F1", "object Dice"), best_epoch)
    metrics.set_ylim(0, 1)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    _write(folder / LEARNING_CURVE, content)
    return [LEARNING_CURVE]


def _write(path: Path, content: io.BytesIO) -> None:
    write_atomically(path, lambda writer: writer.write(content.getvalue()))


def _worst_images(
    file: CheckpointFile,
    config: TrialConfig,
    store: Store,
    val_indices: Sequence[int],
    device: torch.device,
    num_images: int,
) -> list[tuple[float, int, NDArray[np.int32]]]:
    """Return object Dice, index and predicted label map of the worst images, the worst first.

    One image at a time, and of its label maps only those that are wanted so far: memory does not grow with the images.
    """
    checkpoint, _ = load_checkpoint(file.path, sha256=file.sha256)
    predictor = Predictor(
        [trained_model(dataclasses.replace(checkpoint, tuned=None), device=device)],
        device=device,
        dtype=resolve_precision(config.train.precision, device),
        tile_px=config.train.eval_tile_px,
        tile_overlap_px=config.train.eval_tile_overlap_px,
    )
    heap: list[
        tuple[float, int, NDArray[np.int32]]
    ] = []  # the least bad on top; no two have an index in common
    for index in val_indices:
        labels = predictor.cut(predictor.see(np.array(store.image(index)))).labels
        truth = np.array(store.labels(index), dtype=np.int32)
        dice = pooled([compare(truth, labels, hausdorff=False)])["object_dice"]
        heapq.heappush(heap, (-dice, -index, labels))
        if len(heap) > num_images:
            heapq.heappop(heap)
    return [(-dice, -index, labels) for dice, index, labels in sorted(heap, reverse=True)]


def _draw(
    axes: Axes,
    history: Sequence[Mapping[str, float | None]],
    names: Sequence[str],
    words: Sequence[str],
    best_epoch: int,
) -> None:
    epochs = [line["epoch"] for line in history]
    for name, label in zip(names, words, strict=True):
        values = [np.nan if line.get(name) is None else line[name] for line in history]
        axes.plot(epochs, values, label=label, marker="o", markersize=2.5, linewidth=1.4)  # type: ignore[arg-type]
    axes.axvline(best_epoch, color="0.6", linewidth=0.8, linestyle="--", label="best epoch")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
