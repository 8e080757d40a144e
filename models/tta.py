"""Test-time augmentation: what a dense model says of an image, whichever way up it lies.

Tissue has no up and no left. A network learns that from turned and mirrored crops, but never quite; the mean over
the 8 symmetries of the square has it exactly.
"""

import torch
from torch import Tensor

from searcher.models.base import DenseModel

__all__ = ["dihedral_average"]


@torch.no_grad()
def dihedral_average(model: DenseModel, images: Tensor) -> Tensor:
    """Return the mean of the maps that a model predicts for the 8 turned and mirrored versions of the images.

    The versions go through the model one after the other. That takes 8 times as long as `predict_maps`, and the memory
    of one more set of maps.

    Args:
        model: The model, in eval mode.
        images: uint8[B, H, W, C], on the model's device.

    Returns:
        float32[B, C, H, W] from 0 to 1, as `predict_maps` returns. Turned images give turned results, up to rounding.
    """
    total: Tensor | None = None
    for is_mirrored in (False, True):
        for quarters in range(4):
            view = torch.rot90(images.flip(2) if is_mirrored else images, quarters, (1, 2))
            maps = torch.rot90(model.predict_maps(view.contiguous()), -quarters, (2, 3))
            maps = maps.flip(3) if is_mirrored else maps
            total = maps.contiguous() if total is None else total.add_(maps)
    assert total is not None
    return total.div_(8)
