"""nnU-Net's folders: `dataset.json`, `imagesTr/ID_0000.png`, `labelsTr/ID.png`, and `imagesTs`, `labelsTs` for tests.

nnU-Net segments classes of pixels: all objects are of one class, and objects that touch become one piece.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from searcher.data_pipeline.datasets.exports.exporter import Exported, Losses, note_lost_names
from searcher.data_pipeline.datasets.samples import RGB

__all__ = ["export_nnunet"]

_OBJECT, _IGNORED = 1, 2


def export_nnunet(
    images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
) -> None:
    """Write a data set in the layout that nnU-Net trains on. Pixels that are not annotated get the label `ignore`.

    Args:
        images: The images, one by one.
        folder: Folder to write into.
        channels: Names of the images' channels.
        losses: Receives what the format cannot hold.
    """
    num_training, is_partial = 0, False
    for image in note_lost_names(images, losses):
        ending = "Ts" if image.sample.split.startswith("test") else "Tr"
        num_training += ending == "Tr"
        if image.sample.split not in ("train", "test"):
            losses.add("splits other than train and test are lost", image.sample.id)
        for part in ("images", "labels"):
            (folder / f"{part}{ending}").mkdir(exist_ok=True)
        for number, plane in enumerate(_planes(image)):
            Image.fromarray(plane).save(folder / f"images{ending}" / f"{image.sample.id}_{number:04d}.png")
        is_partial |= bool((image.labels < 0).any())
        classes = np.select([image.labels > 0, image.labels < 0], [_OBJECT, _IGNORED]).astype(np.uint8)
        Image.fromarray(classes).save(folder / f"labels{ending}" / f"{image.sample.id}.png")
        if _num_pieces(classes == _OBJECT) != len(image.numbers):
            losses.add("objects that touch become one, and those in pieces several", image.sample.id)
    labels = {"background": 0, "object": _OBJECT} | ({"ignore": _IGNORED} if is_partial else {})
    document = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": num_training,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _planes(image: Exported) -> list[np.ndarray]:
    """Return what files an image is: one of three colours, or one for each channel."""
    num = image.pixels.shape[2]
    is_colour = num == len(RGB) and image.pixels.dtype == np.uint8
    return [image.pixels] if is_colour else [image.pixels[..., channel] for channel in range(num)]


def _num_pieces(mask: np.ndarray) -> int:
    import cv2

    return int(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0]) - 1
