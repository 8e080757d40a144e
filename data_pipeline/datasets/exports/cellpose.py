"""Cellpose's folders: `SPLIT/ID.png` with `SPLIT/ID_masks.png`, or `.tif`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from searcher.data_pipeline.datasets.canonical import write_image
from searcher.data_pipeline.datasets.exports.exporter import (
    Exported,
    Losses,
    note_lost_names,
    without_unannotated,
)

__all__ = ["export_cellpose"]


def export_cellpose(
    images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
) -> None:
    """Write a data set in the layout that Cellpose trains on.

    Args:
        images: The images, one by one.
        folder: Folder to write into.
        channels: Names of the images' channels.
        losses: Receives what the format cannot hold.
    """
    del channels
    for image in note_lost_names(images, losses):
        path = write_image(folder / image.sample.split, image.sample.id, image.pixels)
        labels = without_unannotated(image, losses)
        masks = path.with_name(f"{image.sample.id}_masks.png")
        if labels.max(initial=0) < 2**16:
            Image.fromarray(labels.astype(np.uint16)).save(masks)
        else:
            tifffile.imwrite(masks.with_suffix(".tif"), labels.astype(np.uint32), compression="zlib")
