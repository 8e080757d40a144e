"""The Tversky loss of Salehi et al. 2017 (arXiv 1706.05721)."""

from pydantic import Field
from torch import Tensor

from searcher.models.losses import RegionLoss, register_loss
from searcher.parts import Section

__all__ = ["Tversky", "TverskyOptions"]

_SMOOTH_PX = 1.0


class TverskyOptions(Section):
    """Settings of the loss; the defaults are the paper's best."""

    alpha: float = Field(default=0.3, ge=0.0, le=1.0)
    """Weight of a pixel that is too many."""
    beta: float = Field(default=0.7, ge=0.0, le=1.0)
    """Weight of a pixel that is missed."""


@register_loss("tversky", options=TverskyOptions)
class Tversky(RegionLoss):
    """1 - TP / (TP + alpha FP + beta FN), with sums of probabilities; with 0.5 and 0.5 it is Dice.

    Args:
        alpha, beta: See `TverskyOptions`.
    """

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def of_region(self, probability: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one region, in 0 to 1."""
        found = (probability * target).sum()
        too_many, missed = (probability * (1 - target)).sum(), ((1 - probability) * target).sum()
        weighed = found + self.alpha * too_many + self.beta * missed
        return 1 - (found + _SMOOTH_PX) / (weighed + _SMOOTH_PX)
