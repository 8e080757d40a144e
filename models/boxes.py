"""Boxes and masks straight from instance label maps, on their device, without a mask per instance in memory.

A box is [x1, y1, x2, y2] in pixels of its label map, between the pixels' edges. The pixel in column 0 reaches from 0 to
1, so an instance one pixel wide has a box of width 1. (torchvision's `masks_to_boxes` uses the centres of the outermost
pixels, so such an instance's box is empty.)

Shapes: H rows, W columns, n instances, P proposals, M cells of a mask's side.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Instances", "find_instances", "mask_targets", "resize_labels", "unannotated_share"]

_POINTS_PER_CELL = 2
"""Along each axis; what torchvision's pooling takes of the features."""


class Instances(NamedTuple):
    """The labels and bounding boxes of the instances in one label map."""

    labels: Tensor
    """int32[n], ascending."""
    boxes: Tensor
    """float32[n, 4]."""


def find_instances(labels: Tensor, *, min_side_px: float = 1) -> Instances:
    """Return the instances of a label map with their bounding boxes; an empty result is valid.

    Args:
        labels: int32[H, W]: 0 is background, below 0 is not annotated; not all numbers need be used.
        min_side_px: Leave out instances whose box is narrower or lower than this, in pixels.
    """
    height, width = labels.shape
    y, x = torch.nonzero(labels > 0, as_tuple=True)
    values, index = torch.unique(labels[y, x], return_inverse=True)
    left = torch.full_like(values, width, dtype=torch.int64).scatter_reduce_(0, index, x, "amin")
    top = torch.full_like(values, height, dtype=torch.int64).scatter_reduce_(0, index, y, "amin")
    right = torch.zeros_like(values, dtype=torch.int64).scatter_reduce_(0, index, x + 1, "amax")
    bottom = torch.zeros_like(values, dtype=torch.int64).scatter_reduce_(0, index, y + 1, "amax")
    keep = (right - left >= min_side_px) & (bottom - top >= min_side_px)
    boxes = torch.stack([left, top, right, bottom], dim=1).float()
    return Instances(values[keep], boxes[keep])


def resize_labels(labels: Tensor, rows: int, columns: int) -> Tensor:
    """Return label maps resized to `rows` x `columns`, by the nearest pixel: int32[B, rows, columns].

    A new pixel's centre may lie exactly between two old pixels, as always at half the size. Then the two are chosen in
    turn, like the squares of a chessboard. Choosing the same side every time would move every instance.

    Args:
        labels: int32[B, H, W].
        rows: New height, at least 1.
        columns: New width, at least 1.
    """
    height, width = labels.shape[1:]
    if (height, width) == (rows, columns):
        return labels
    y = _nearest(height, rows, labels.device)[:, torch.arange(columns, device=labels.device) % 2]
    x = _nearest(width, columns, labels.device)[:, torch.arange(rows, device=labels.device) % 2]
    return labels[:, y, x.T]


def mask_targets(labels: Tensor, ids: Tensor, boxes: Tensor, *, size: int) -> Tensor:
    """Return, for each box, the share of each cell of its M x M grid that belongs to the box's instance.

    The result equals `roi_align(..., sampling_ratio=2, aligned=True)` of the instance's binary mask (He et al. 2017,
    arXiv 1703.06870, section 3): bilinear at 2 x 2 points a cell, averaged.

    Args:
        labels: int32[H, W], the label map of one image.
        ids: int32[P], the label of each box's instance.
        boxes: float32[P, 4] as [x1, y1, x2, y2], in pixels.
        size: M, cells per side.

    Returns:
        float32[P, M, M] in 0 to 1.
    """
    height, width = labels.shape
    points = size * _POINTS_PER_CELL
    fractions = (torch.arange(points, device=labels.device) + 0.5) / points
    x1, y1, x2, y2 = (side[:, None] for side in boxes.float().unbind(dim=1))
    left, right, weight_x = _neighbours(x1 + fractions * (x2 - x1), width)
    top, bottom, weight_y = _neighbours(y1 + fractions * (y2 - y1), height)

    def belongs(y: Tensor, x: Tensor) -> Tensor:
        return (labels[y[:, :, None], x[:, None, :]] == ids[:, None, None]).float()

    weight_x, weight_y = weight_x[:, None, :], weight_y[:, :, None]
    upper = torch.lerp(belongs(top, left), belongs(top, right), weight_x)
    lower = torch.lerp(belongs(bottom, left), belongs(bottom, right), weight_x)
    sampled = torch.lerp(upper, lower, weight_y)
    cells = sampled.reshape(len(ids), size, _POINTS_PER_CELL, size, _POINTS_PER_CELL)
    return cells.mean(dim=(2, 4))


def unannotated_share(labels: Tensor, boxes: Tensor) -> Tensor:
    """Return the share of each box's pixels that are not annotated; 0 for a box outside the label map.

    Args:
        labels: int32[H, W], below 0 where nothing is annotated.
        boxes: float32[P, 4] as [x1, y1, x2, y2], in pixels; rounded to whole pixels and clipped to the label map.

    Returns:
        float32[P] in 0 to 1.
    """
    height, width = labels.shape
    sums = F.pad((labels < 0).int().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x1, y1, x2, y2 = boxes.round().long().unbind(dim=1)
    left, right, top, bottom = (
        x1.clamp(0, width),
        x2.clamp(0, width),
        y1.clamp(0, height),
        y2.clamp(0, height),
    )
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return inside / ((right - left) * (bottom - top)).clamp(min=1)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels whose centres lie before and behind a position, and the weight of the second.

    Args:
        position: float32[P, points], between the pixels' edges; beyond the border, the border's pixel counts.
        size: Number of pixels along the axis.
    """
    centred = (position - 0.5).clamp(0, size - 1)
    before = centred.long()
    return before, (before + 1).clamp(max=size - 1), centred - before


def _nearest(size: int, new_size: int, device: torch.device) -> Tensor:
    """Return int64[new_size, 2]: the pixel at each new pixel's centre; at an edge, the one before and the one behind.

    In whole numbers, because what lies on an edge must be known exactly: centres are at (2 n + 1) size / (2 new_size).
    """
    numerator = (2 * torch.arange(new_size, device=device) + 1) * size
    behind = numerator // (2 * new_size)
    before = (numerator - 1) // (2 * new_size)
    return torch.stack([before, behind], dim=1)
