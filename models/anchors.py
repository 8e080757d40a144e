"""The boxes that a region proposal network starts from, their sizes part of the network's state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Anchors"]


class Anchors(nn.Module):
    """Square and elongated boxes around every position of a feature pyramid, one size per level.

    Sizes and shapes are buffers. The weights of a proposal network are corrections of its anchors, so they are loaded
    together with the anchors of their training.

    Args:
        smallest_px: Side of the finest level's square, in pixels of the unscaled image.
        octaves: How often the side doubles between the finest and the coarsest level.
        aspect: Height over width of the tall boxes; the wide boxes have the inverse. Every box of a level has the
            square's area.
        num_levels: Levels of the pyramid, at least 2.
    """

    sides_px: Tensor
    """float32[levels]."""
    ratios: Tensor
    """float32[3], height over width: wide, square, tall, in the order of torchvision's weights."""

    def __init__(self, *, smallest_px: float, octaves: float, aspect: float, num_levels: int = 5) -> None:
        super().__init__()
        steps = [level / (num_levels - 1) for level in range(num_levels)]
        self.register_buffer(
            "sides_px", torch.tensor([smallest_px * 2 ** (octaves * step) for step in steps])
        )
        self.register_buffer("ratios", torch.tensor([1 / aspect, 1.0, aspect]))

    def forward(
        self, grid_sizes: Sequence[tuple[int, int]], *, input_size: tuple[int, int], scale: float
    ) -> Tensor:
        """Return the anchor boxes of all levels for one input size, in pixels of the network's input.

        Args:
            grid_sizes: Height and width of each level's feature map, finest level first.
            input_size: Height and width of the network's input, padding included.
            scale: Pixels of the input per pixel of the image.

        Returns:
            float32[N, 4] as [x1, y1, x2, y2], N the sum of height * width * 3 over the levels; ordered by level, row,
            column and shape.
        """
        heights = self.sides_px[:, None] * self.ratios.sqrt() * scale
        widths = self.sides_px[:, None] / self.ratios.sqrt() * scale
        half = torch.stack([widths, heights], dim=2) / 2
        levels = []
        for (rows, columns), extent in zip(grid_sizes, torch.cat([-half, half], dim=2), strict=True):
            # Like torchvision: at the upper left corner of each position's cell.
            y = torch.arange(rows, device=extent.device) * (input_size[0] // rows)
            x = torch.arange(columns, device=extent.device) * (input_size[1] // columns)
            y, x = torch.meshgrid(y, x, indexing="ij")
            levels.append((torch.stack([x, y, x, y], dim=2)[:, :, None] + extent).reshape(-1, 4))
        return torch.cat(levels)
