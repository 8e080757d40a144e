"""From instance label maps to what a network is trained on.

What is exact in a few passes over the pixels is computed on the labels' own device. Distances that may be long are
computed on the CPU, by one exact distance transform per instance in its bounding box (`searcher.models.distances`).
That takes 3 ms for the 6 glands of an average 448 px crop of GlaS. Iterated pooling on the device needs as many passes
as a gland's radius has pixels, and is not Euclidean.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from searcher.models.distances import normalised_border_distance, sum_of_two_nearest

__all__ = [
    "BACKGROUND",
    "CONTOUR",
    "INSIDE",
    "border_weight",
    "continued",
    "contour_classes",
    "foreground",
    "has_unannotated",
    "inner_distance",
]

BACKGROUND, INSIDE, CONTOUR = 0, 1, 2
"""The classes of `contour_classes`."""

_REACH_SIGMAS = 4


def has_unannotated(labels: Tensor) -> bool:
    """Return whether any pixel of the label maps is not annotated. On a GPU, it waits for the label maps."""
    return bool((labels < 0).any())


def continued(labels: Tensor) -> Tensor:
    """Return label maps in which each pixel that is not annotated gets the label of the nearest annotated pixel.

    So the border of an annotated region does not count as a border of an instance or of the background, just as the
    image's border does not. Computed on the CPU.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background, below 0 not annotated.

    Returns:
        int32[B, H, W], none below 0; 0 everywhere in an image without any annotated pixel.
    """
    found = labels.cpu().numpy().copy()
    for label_map in found:
        is_unknown = label_map < 0
        if is_unknown.all():
            label_map[:] = 0
        elif is_unknown.any():
            rows, columns = distance_transform_edt(is_unknown, return_distances=False, return_indices=True)
            label_map[:] = label_map[rows, columns]
    return torch.from_numpy(found).to(labels.device)


def foreground(labels: Tensor) -> Tensor:
    """Return the foreground of label maps: 1 where a pixel belongs to any instance, 0 on background.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background.

    Returns:
        float32[B, 1, H, W].
    """
    return (labels > 0).float().unsqueeze(1)


def contour_classes(labels: Tensor, *, width_px: int) -> Tensor:
    """Return the class of each pixel: `BACKGROUND`, `INSIDE` an instance, or on the instance's `CONTOUR`.

    The contour is the part of an instance that is at most `width_px` away from a pixel outside it (Euclidean, between
    centres of pixels). So inside and contour together are the instance, neither larger nor smaller, and where two
    instances touch both have their contour. An instance nowhere wider than twice the width has no inside. The image's
    border is no contour.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background.
        width_px: Width of the contour, at least 1.

    Returns:
        int64[B, H, W], on the labels' device.
    """
    is_contour = (labels > 0) & _is_near_another(labels, width_px)
    return (labels > 0).long() + is_contour


def _is_near_another(labels: Tensor, radius: int) -> Tensor:
    """Return where a pixel of another label is at most `radius` away; bool[B, H, W].

    Two passes, along the rows and along the columns, like an exact distance transform. The nearest other label along a
    row also holds for the pixels above and below if they have the same label. Otherwise those pixels are near ones
    themselves.
    """
    height, width = labels.shape[1:]
    # Distance to the nearest other label in the row. Falling steps: the smallest is written last.
    along_row = torch.full_like(labels, radius + 1, dtype=torch.int16)
    for step in range(min(radius, width - 1), 0, -1):
        differs = labels[:, :, step:] != labels[:, :, :-step]
        along_row[:, :, step:].masked_fill_(differs, step)
        along_row[:, :, :-step].masked_fill_(differs, step)
    is_near = along_row <= radius
    for step in range(1, min(radius, height - 1) + 1):
        differs = labels[:, step:] != labels[:, :-step]
        has_near = along_row <= math.isqrt(radius**2 - step**2)
        is_near[:, step:] |= differs | has_near[:, :-step]
        is_near[:, :-step] |= differs | has_near[:, step:]
    return is_near


def inner_distance(labels: Tensor, *, cap_px: int) -> Tensor:
    """Return each pixel's distance to its instance's border, divided by the largest in the instance: 0 to 1.

    Distances are first limited to `cap_px`; see `normalised_border_distance`. Computed on the CPU, exactly.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background.
        cap_px: Larger distances are set to this one, in pixels; 0 for no limit.

    Returns:
        float32[B, 1, H, W], on the labels' device.
    """
    return _on_cpu(lambda label_map: normalised_border_distance(label_map, cap_px=cap_px), labels)


def border_weight(labels: Tensor, *, weight: float, sigma_px: float) -> Tensor:
    """Return the pixels' weights 1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), high between instances that nearly touch.

    Ronneberger et al. 2015 (arXiv 1505.04597), equation 2, with 1 for their class weights. d1 and d2 are the distances
    to the nearest and the second nearest instance, 0 inside one. (In the paper, one pixel of background is drawn
    between touching cells. Labels here may touch, and the pixels on both sides get the weight.) Computed on the CPU,
    exactly but for instances farther than 4 sigma, where exp() is below 0.0004.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background.
        weight: w0, from 0.
        sigma_px: sigma, above 0.

    Returns:
        float32[B, 1, H, W] in 1 to 1 + w0, on the labels' device.
    """
    reach_px = math.ceil(_REACH_SIGMAS * sigma_px)

    def weights_of(label_map: NDArray[np.int32]) -> NDArray[np.float32]:
        distance = sum_of_two_nearest(label_map, reach_px=reach_px)
        weights: NDArray[np.float32] = 1 + weight * np.exp(distance**2 / (-2 * sigma_px**2))
        return weights

    return _on_cpu(weights_of, labels)


def _on_cpu(compute: Callable[[NDArray[np.int32]], NDArray[np.float32]], labels: Tensor) -> Tensor:
    """Return float32[B, 1, H, W] on the labels' device: what is computed of each label map."""
    label_maps = labels.cpu().numpy()
    return torch.from_numpy(np.stack([compute(each) for each in label_maps])).unsqueeze(1).to(labels.device)
