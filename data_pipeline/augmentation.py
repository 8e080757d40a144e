"""What an augmentation is: presets, pipelines and those of plug-ins alike."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["Augmentation", "Image", "Labels", "Reflections"]

Image = Pixels
Labels = NDArray[np.uint16] | NDArray[np.int32]


Reflections = Mapping[int, int] | None
"""Labels of a crop that are not the image's own, each with the label of the object that it is the reflection of."""


class Augmentation(Protocol):
    """Makes a training crop from an image and its label map. Threads may share one.

    One that has a further argument `near`, a row and a column of the image or None, takes the crop so that this pixel
    is in it. `data.class_balance` needs that; without it, only the images are chosen by their classes.
    """

    @property
    def crop_px(self) -> int:
        """Side of the crops that this augmentation makes, in pixels."""

    def __call__(
        self,
        image: Image,
        labels: Labels,
        rng: np.random.Generator,
        out_image: Image,
        out_labels: NDArray[np.int32],
    ) -> Reflections:
        """Write a crop of one image.

        Args:
            image: uint8 or uint16[H, W, C], any H and W from 1; not changed.
            labels: uint16 or int32[H, W]; not changed.
            rng: Everything random is drawn from it.
            out_image: [crop_px, crop_px, C], of the image's type, C-contiguous; every pixel is written.
            out_labels: int32[crop_px, crop_px], C-contiguous; every pixel is written.

        Returns:
            The labels that it made itself, with what they stand for; None where all labels are the image's.
        """
