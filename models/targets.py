"""From instance label maps to what a network is trained on, on the device."""

from torch import Tensor

__all__ = ["foreground"]


def foreground(labels: Tensor) -> Tensor:
    """Return 1 where a pixel belongs to any instance and 0 on background.

    Args:
        labels: int32[B, H, W], instance label maps, 0 is background.

    Returns:
        float32[B, 1, H, W].
    """
    return (labels > 0).float().unsqueeze(1)
