"""Training losses on logits, computed in float32 for any precision of the network.

Losses have names that settings join by `+`. They work for one logit per pixel and for several classes. `ce` is the
cross-entropy (`bce`, its name for one logit, means the same), `focal` the focal loss, and `dice` soft Dice. The first
two use a map of weights. They are means over the pixels: each pixel's loss times its weight, divided by the number of
pixels. A plug-in registers further ones by `register_loss`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from searcher.models.parts import LOSSES, LossPart, checked_name
from searcher.models.settings_base import PartOptions

__all__ = [
    "CROSS_ENTROPY",
    "DICE",
    "FOCAL",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Loss",
    "RegionLoss",
    "binary_cross_entropy",
    "binary_focal_loss",
    "binary_losses",
    "class_losses",
    "cross_entropy",
    "distance_loss",
    "focal_loss",
    "register_loss",
    "soft_dice_loss",
    "soft_dice_loss_of_classes",
]


def binary_cross_entropy(logits: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy in nats, mean over all pixels of the batch.

    Args:
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), target, weight=weight)


def cross_entropy(logits: Tensor, classes: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy in nats, mean over all pixels of the batch.

    Args:
        logits: float[B, K, H, W].
        classes: int64[B, H, W], 0 to K - 1.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
    """
    loss = F.cross_entropy(logits.float(), classes, reduction="none")
    return _mean(loss.unsqueeze(1), weight)


def binary_focal_loss(
    logits: Tensor, target: Tensor, *, gamma: float, weight: Tensor | None = None
) -> Tensor:
    """Return the focal loss -(1 - p)^gamma log p of a binary target, the mean over all pixels of the batch.

    p is the probability that the network gives to the pixel's true value. Lin et al. 2017 (arXiv 1708.02002), equation
    4. With a gamma of 0 it is the cross-entropy.

    Args:
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
        gamma: How much less a pixel counts the better it is predicted, at least 0.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return _mean(_focused(loss, gamma), weight)


def focal_loss(logits: Tensor, classes: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Return the focal loss -(1 - p)^gamma log p of exclusive classes, the mean over all pixels of the batch.

    p is the probability that the network gives to the pixel's true class.

    Args:
        logits: float[B, K, H, W].
        classes: int64[B, H, W], 0 to K - 1.
        gamma: How much less a pixel counts the better it is predicted, at least 0.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
    """
    loss = F.cross_entropy(logits.float(), classes, reduction="none").unsqueeze(1)
    return _mean(_focused(loss, gamma), weight)


def soft_dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return the soft Dice loss, 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), 0 to 1.

    p are the probabilities and t the target. The sums run over all pixels of the batch together, so in a crop without a
    gland only false foreground counts. The denominator has plain sums, not the squares of V-Net (Milletari et al. 2016,
    arXiv 1606.04797, section 3). `smooth` keeps loss and gradient finite where both p and t are 0.

    Args:
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
        smooth: Added to numerator and denominator, in pixels, above 0.
    """
    return _soft_dice(logits.float().sigmoid(), target, smooth)


def soft_dice_loss_of_classes(logits: Tensor, classes: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return the mean of the soft Dice losses of all classes except class 0, the background; 0 to 1.

    Args:
        logits: float[B, K, H, W].
        classes: int64[B, H, W], 0 to K - 1.
        smooth: See `soft_dice_loss`.
    """
    return _mean_of_regions(
        lambda probability, target: _soft_dice(probability, target, smooth), logits, classes
    )


def distance_loss(prediction: Tensor, target: Tensor, *, beta: float = 0.1) -> Tensor:
    """Return the smooth L1 loss of a predicted distance, the mean over all pixels of the batch.

    Of an error e, the loss is e^2 / (2 beta) where |e| is below beta, else |e| - beta / 2. Girshick 2015 (arXiv
    1504.08083), equation 3, has a beta of 1.

    Args:
        prediction: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 to 1.
        beta: Error at which the loss turns from a square to a line, above 0.
    """
    return F.smooth_l1_loss(prediction.float(), target, beta=beta)


def binary_losses(
    name: str,
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    focal_gamma: float = 2.0,
    options: PartOptions | None = None,
) -> dict[str, Tensor]:
    """Return the losses that a setting such as `bce+dice` names, by name, each a float32 scalar.

    Args:
        name: Names of losses (`ce` or `bce`, `focal`, `dice`) joined by `+`.
        logits: float[B, 1, H, W].
        target: float32[B, 1, H, W], 0 or 1.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere. Not used by `dice`.
        focal_gamma: See `binary_focal_loss`.
        options: Settings of plug-ins' losses, by the loss's name; None for their defaults.
    """
    losses = _by_name(name, focal_gamma, options)
    return {part: loss.of_binary(logits, target, weight) for part, loss in losses.items()}


def class_losses(
    name: str,
    logits: Tensor,
    classes: Tensor,
    *,
    weight: Tensor | None = None,
    focal_gamma: float = 2.0,
    options: PartOptions | None = None,
) -> dict[str, Tensor]:
    """Return the losses that a setting such as `ce+dice` names for exclusive classes, by name, each a float32 scalar.

    Args:
        name: Names of losses (`ce` or `bce`, `focal`, `dice`) joined by `+`.
        logits: float[B, K, H, W].
        classes: int64[B, H, W], 0 to K - 1; 0 is background.
        weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere. Not used by `dice`.
        focal_gamma: See `focal_loss`.
        options: See `binary_losses`.
    """
    losses = _by_name(name, focal_gamma, options)
    return {part: loss.of_classes(logits, classes, weight) for part, loss in losses.items()}


def _by_name(name: str, focal_gamma: float, options: PartOptions | None) -> "dict[str, Loss]":
    return {
        part: LOSSES[part].made(options=(options or {}).get(part), focal_gamma=focal_gamma)
        for part in name.split("+")
    }


class Loss(ABC):
    """A term of a training loss: the base class of all losses.

    A subclass may have settings of its own, as keyword arguments. It takes `focal_gamma` only if its signature names
    it.

    Args:
        focal_gamma: The setting `focal_gamma`; only the focal loss uses it.
    """

    uses_weights: ClassVar[bool] = True
    """Whether a map of weights, as `border_weight` makes it, counts."""

    def __init__(self, *, focal_gamma: float = 2.0) -> None:
        self.focal_gamma = focal_gamma

    @abstractmethod
    def of_binary(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the loss of one logit per pixel, a float32 scalar.

        Args:
            logits: float[B, 1, H, W].
            target: float32[B, 1, H, W], 0 or 1.
            weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
        """

    @abstractmethod
    def of_classes(self, logits: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
        """Return the loss of exclusive classes, a float32 scalar.

        Args:
            logits: float[B, K, H, W].
            classes: int64[B, H, W], 0 to K - 1; 0 is background.
            weight: float32[B, 1, H, W], each pixel's weight; None is 1 everywhere.
        """


class RegionLoss(Loss):
    """A loss of the overlap between a region and its predicted probabilities. Pixels' weights are not used.

    With several classes it is the mean over all classes except the background.
    """

    uses_weights = False

    @abstractmethod
    def of_region(self, probability: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one region, a float32 scalar.

        Args:
            probability: float32, 0 to 1, of any shape.
            target: float32, 0 or 1, of the same shape.
        """

    def of_binary(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the loss of the foreground, without the pixels' weights; see `Loss.of_binary`."""
        del weight
        return self.of_region(logits.float().sigmoid(), target)

    def of_classes(self, logits: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
        """Return the mean loss of all classes except class 0, the background; see `Loss.of_classes`."""
        del weight
        return _mean_of_regions(self.of_region, logits, classes)


class CrossEntropy(Loss):
    """The cross-entropy, named `ce` or `bce` in settings."""

    def of_binary(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """See `binary_cross_entropy`."""
        return binary_cross_entropy(logits, target, weight=weight)

    def of_classes(self, logits: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
        """See `cross_entropy`."""
        return cross_entropy(logits, classes, weight=weight)


class Focal(Loss):
    """The focal loss, named `focal` in settings."""

    def of_binary(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """See `binary_focal_loss`."""
        return binary_focal_loss(logits, target, gamma=self.focal_gamma, weight=weight)

    def of_classes(self, logits: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
        """See `focal_loss`."""
        return focal_loss(logits, classes, gamma=self.focal_gamma, weight=weight)


class Dice(RegionLoss):
    """The soft Dice loss, named `dice` in settings."""

    def of_region(self, probability: Tensor, target: Tensor) -> Tensor:
        """See `soft_dice_loss`."""
        return _soft_dice(probability, target, 1.0)


_Loss = TypeVar("_Loss", bound=type[Loss])


def register_loss(name: str, *, options: type[BaseModel] | None = None) -> Callable[[_Loss], _Loss]:
    """Return a class decorator that registers a subclass of `Loss` under a name, for a plug-in.

    Args:
        name: Name of the loss in study files.
        options: Class of the loss's own settings, derived from `searcher.parts.Section`, each with a default. They are
            the keys of `model.options.NAME`, and keyword arguments of the loss's class.

    Raises:
        PluginError: Another loss has the name, or the name has a `+` or `.` in it.
    """
    checked_name("loss", name, options)

    def register(loss: _Loss) -> _Loss:
        LOSSES.register(name, LossPart(loss, options, loss.uses_weights))
        return loss

    return register


CROSS_ENTROPY, DICE, FOCAL = (
    LossPart(each, uses_weights=each.uses_weights) for each in (CrossEntropy, Dice, Focal)
)


def _mean_of_regions(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, classes: Tensor) -> Tensor:
    probabilities = logits.float().softmax(dim=1)
    losses = [loss(probabilities[:, each], (classes == each).float()) for each in range(1, logits.shape[1])]
    return sum(losses[1:], start=losses[0]) / len(losses)


def _mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    return loss.mean() if weight is None else (loss * weight).mean()


def _focused(cross_entropy: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma times the cross-entropy -log p."""
    # 1 - exp(-x) loses all its digits near 0, and a power below 1 has no gradient at 0: hence expm1 and the
    # bound, far below what a pixel that counts has.
    return (-(-cross_entropy).expm1()).clamp_min(1e-12) ** gamma * cross_entropy


def _soft_dice(probability: Tensor, target: Tensor, smooth: float) -> Tensor:
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + smooth) / (probability.sum() + target.sum() + smooth)
