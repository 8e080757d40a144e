"""The Tversky loss of Salehi et al. 2017 (arXiv 1706.05721)."""

from torch import Tensor

from searcher.models.losses import RegionLoss, register_loss

__all__ = ["Tversky"]

_FALSE_POSITIVES, _FALSE_NEGATIVES = 0.3, 0.7
"""alpha and beta of the paper's best: a pixel that is missed counts more than one that is too many."""
_SMOOTH_PX = 1.0


@register_loss("tversky")
class Tversky(RegionLoss):
    """1 - TP / (TP + 0.3 FP + 0.7 FN), with sums of probabilities; with 0.5 and 0.5 it would be Dice."""

    def of_region(self, probability: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one region, in 0 to 1."""
        found = (probability * target).sum()
        too_many, missed = (probability * (1 - target)).sum(), ((1 - probability) * target).sum()
        weighed = found + _FALSE_POSITIVES * too_many + _FALSE_NEGATIVES * missed
        return 1 - (found + _SMOOTH_PX) / (weighed + _SMOOTH_PX)
