"""Single pictures as files: how a network learned, and what it found in an image."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searcher.extras import how_to_install
from searcher.report.overlays import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NO_CURVE", "learning_curve", "overlay_jpeg"]

NO_CURVE = f'no learning curve is drawn: that takes the extra "plots"; {how_to_install("plots")}'
"""What to say where Matplotlib, which nothing else here needs, is missing."""

_METRICS = ("pixel_dice", "object_f1", "object_dice")
_LONGEST_SIDE_PX = 1024
"""Of a picture: it is to be looked at in a browser, not measured."""


def learning_curve(history: Sequence[Mapping[str, float | None]], *, best_epoch: int) -> bytes:
    """Return a picture of losses and metrics by epoch as PNG.

    Args:
        history: Metrics of each epoch with its number `epoch`, from `read_history`.
        best_epoch: Number of the epoch to mark.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.2), dpi=110, layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    _draw(losses, history, ("train_loss", "loss"), ("training loss", "validation loss"), best_epoch)
    _draw(metrics, history, _METRICS, ("pixel Dice", "object F1", "object Dice"), best_epoch)
    metrics.set_ylim(0, 1)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def overlay_jpeg(
    image: NDArray[np.uint8],
    truth: NDArray[np.integer[Any]] | None,
    prediction: NDArray[np.integer[Any]],
) -> bytes:
    """Return an image with the outlines of prediction and truth, as a JPEG of at most 1024 x 1024 px.

    Args:
        image: uint8[H, W, C], normalised.
        truth: integer[H, W], label map of the true objects; None if it is not known.
        prediction: integer[H, W], label map of the predicted objects.
    """
    picture = Image.fromarray(overlay(image, truth, prediction))
    picture.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90, subsampling=0)  # outlines keep their colour
    return content.getvalue()


def _draw(
    axes: "Axes",
    history: Sequence[Mapping[str, float | None]],
    names: Sequence[str],
    words: Sequence[str],
    best_epoch: int,
) -> None:
    from matplotlib.ticker import MaxNLocator

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
