"""Small images with objects, and label maps of every kind that data sets have."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from searcher.models.values import TensorBatch

__all__ = ["LABELS", "batch_of", "discs", "few_images"]

Sample = tuple[NDArray[np.uint8], NDArray[np.int32]]
"""An image uint8[H, W, C] and its label map int32[H, W]."""

_EMPTY = np.zeros((60, 80), np.int32)
# 200 objects of 4 by 3 px, one or two apart: also at half scale no detector takes them for too small.
_TINY = np.zeros((60, 80), np.int32)
for _row, _column in np.ndindex(4, 3):
    _TINY[_row::6, _column::4][:10] = np.arange(1, 201).reshape(10, 20)
LABELS: dict[str, NDArray[np.int32]] = {
    "empty": _EMPTY,
    "one huge gland": np.ones_like(_EMPTY),
    "200 tiny glands": _TINY,
    "labels above 255": np.where(_TINY > 0, _TINY * 1000, 0).astype(np.int32),
    "half not annotated": np.where(np.arange(80) < 40, _TINY, -1).astype(np.int32),
}
"""Label maps int32[60, 80] that a model must train on."""


def discs(size: tuple[int, int], *circles: tuple[int, int, int], channels: int = 3) -> Sample:
    """Return an image of dark discs on a light, noisy background, and its label map with labels from 1.

    Args:
        size: Height and width of the image, in pixels.
        circles: Row, column and radius of each disc, in pixels.
        channels: Number of channels of the image.
    """
    labels = np.zeros(size, np.int32)
    for label, (y, x, radius) in enumerate(circles, start=1):
        cv2.circle(labels, (x, y), radius, label, -1)
    noise = np.random.default_rng(len(circles)).normal(0, 12, (*size, channels))
    image = np.where(labels[..., None] > 0, 90, 190) + noise
    return image.clip(0, 255).astype(np.uint8), labels


def batch_of(*samples: Sample) -> TensorBatch:
    """Return a batch of images of the same size, with their label maps."""
    images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))
    return TensorBatch(images, labels)


def few_images(num: int = 4, *, touching: bool, channels: int = 3) -> TensorBatch:
    """Return a batch of up to four images of 48 x 64 pixels, the second one without objects, for a quick training.

    Args:
        num: Number of images.
        touching: Whether two of the objects touch.
        channels: Number of channels of the images.
    """
    pair = ((24, 18, 10), (24, 38, 9)) if touching else ((24, 20, 13),)
    circles = (pair, (), ((14, 14, 9), (32, 44, 11)), ((12, 12, 7), (12, 40, 8), (36, 28, 8)))
    return batch_of(*(discs((48, 64), *each, channels=channels) for each in circles[:num]))
