"""What every loss must do."""

from typing import Any

import torch
from torch import Tensor

from searcher.models.losses import Loss
from searcher.models.parts import LOSSES

__all__ = ["check_loss"]

_SURE = 12.0
"""A logit of a probability within 1e-5 of 0 or 1."""


def check_loss(loss: type[Loss] | str, **options: Any) -> None:
    """Check that a loss is finite, has finite gradients, and is smaller for right predictions than for wrong ones.

    Args:
        loss: The loss' class or name.
        options: Own settings of the loss that differ from their defaults.

    Raises:
        AssertionError: The check failed; the message says why.
    """
    made = LOSSES[loss].made(options=options) if isinstance(loss, str) else loss(**options)
    half = torch.zeros((2, 1, 8, 8))
    half[:, :, :4] = 1
    for about, target in (
        ("nothing there", torch.zeros_like(half)),
        ("all there", torch.ones_like(half)),
        ("half", half),
    ):
        classes = target[:, 0].long() * 2
        signs = 2 * target - 1
        of_classes = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2) * 2.0 - 1
        for weight in (None, 1 + target):
            right, wrong = (
                _checked(made.of_binary, sign * signs, target, weight, about) for sign in (_SURE, -_SURE)
            )
            _claim(
                right < wrong,
                f"one logit, {about}: must be smaller for the truth, got {right} and {wrong} for its opposite",
            )
            right, wrong = (
                _checked(made.of_classes, sign * of_classes, classes, weight, about)
                for sign in (_SURE, -_SURE)
            )
            if about != "nothing there":  # what counts objects alone may take all wrong classes alike there
                _claim(
                    right < wrong,
                    f"three classes, {about}: must be smaller for the truth, got {right} and {wrong}",
                )


def _checked(loss, logits: Tensor, target: Tensor, weight: Tensor | None, about: str) -> float:  # type: ignore[no-untyped-def]
    logits = logits.clone().requires_grad_()
    value: Tensor = loss(logits, target, weight)
    _claim(value.shape == (), f"{about}: must be a scalar, got shape {[*value.shape]}")
    _claim(value.dtype == torch.float32, f"{about}: must be float32, got {value.dtype}")
    _claim(bool(torch.isfinite(value)), f"{about}: must be finite, got {value.item()}")
    value.backward()  # type: ignore[no-untyped-call]
    _claim(
        logits.grad is not None and bool(torch.isfinite(logits.grad).all()),
        f"{about}: gradients must be finite",
    )
    return float(value.detach())


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
