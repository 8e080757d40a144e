"""Training losses on logits, computed in float32 whatever precision the network ran in."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

__all__ = ["binary_cross_entropy", "binary_losses", "soft_dice_loss"]


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy in nats, mean over all pixels of the batch.

    Args:
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), target)


def soft_dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) with p the probabilities, in 0 to 1.

    The sums run over all pixels of the batch together, so a crop without a gland weighs by its false pixels
    only. The denominator has plain sums, not the squares of V-Net (Milletari et al. 2016, arXiv 1606.04797,
    section 3). `smooth`, in pixels, keeps loss and gradient finite when nothing is there and nothing found.

    Args:
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
        smooth: Above 0.
    """
    probability = logits.float().sigmoid()
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + smooth) / (probability.sum() + target.sum() + smooth)


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": binary_cross_entropy,
    "dice": soft_dice_loss,
}


def binary_losses(name: str, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the losses that a setting such as `bce+dice` names, by their names; each a float32 scalar.

    Args:
        name: Names of losses (`bce`, `dice`) joined by `+`.
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
    """
    return {part: _BINARY[part](logits, target) for part in name.split("+")}
