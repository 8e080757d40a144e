"""What an augmentation is: presets, pipelines and those of plug-ins alike."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import Pixels

__all__ = ["Augmentation", "Image", "Labels"]

Image = Pixels
Labels = NDArray[np.uint16] | NDArray[np.int32]


class Augmentation(Protocol):
    """Makes a training crop from an image and its label map. Threads may share one."""

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
    ) -> None:
        """Write a crop of one image.

        Args:
            image: uint8 or uint16[H, W, C], any H and W from 1; not changed.
            labels: uint16 or int32[H, W]; not changed.
            rng: Everything random is drawn from it.
            out_image: [crop_px, crop_px, C], of the image's type, C-contiguous; every pixel is written.
            out_labels: int32[crop_px, crop_px], C-contiguous; every pixel is written.
        """
