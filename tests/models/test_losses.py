"""Losses and targets by hand calculation."""

import math

import pytest
import torch

from models.losses import binary_cross_entropy, binary_losses, soft_dice_loss
from models.targets import foreground


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


LOGITS = torch.tensor([logit(0.9), logit(0.2), logit(0.5), logit(0.6)]).view(1, 1, 2, 2)
TARGET = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)


def test_cross_entropy_is_the_mean_negative_log_likelihood():
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.5) + math.log(0.6)) / 4
    assert binary_cross_entropy(LOGITS, TARGET).item() == pytest.approx(expected)


def test_cross_entropy_of_a_certain_error_is_finite():
    assert binary_cross_entropy(torch.full((1, 1, 2, 2), 1e4), torch.zeros(1, 1, 2, 2)).item() == 1e4


def test_soft_dice_has_plain_sums_and_a_smooth_pixel():
    expected = 1 - (2 * (0.9 + 0.6) + 1) / ((0.9 + 0.2 + 0.5 + 0.6) + 2 + 1)
    assert soft_dice_loss(LOGITS, TARGET).item() == pytest.approx(expected)
    expected = 1 - (2 * (0.9 + 0.6) + 0.1) / ((0.9 + 0.2 + 0.5 + 0.6) + 2 + 0.1)
    assert soft_dice_loss(LOGITS, TARGET, smooth=0.1).item() == pytest.approx(expected)


def test_soft_dice_sums_over_the_batch():
    """Two images of the batch are one set of pixels, not a mean of two losses."""
    logits, target = torch.cat([LOGITS, -LOGITS]), torch.cat([TARGET, torch.zeros_like(TARGET)])
    probabilities = 0.9 + 0.2 + 0.5 + 0.6 + 0.1 + 0.8 + 0.5 + 0.4
    assert soft_dice_loss(logits, target).item() == pytest.approx(1 - (2 * 1.5 + 1) / (probabilities + 2 + 1))


@pytest.mark.parametrize("name", ["bce", "dice", "bce+dice"])
@pytest.mark.parametrize("certainty", [-100.0, 0.0, 100.0])
def test_a_crop_without_glands_has_finite_losses_and_gradients(name, certainty):
    logits = torch.full((2, 1, 8, 8), certainty, requires_grad=True)
    losses = binary_losses(name, logits, torch.zeros(2, 1, 8, 8))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert torch.isfinite(logits.grad).all()


def test_finding_nothing_where_nothing_is_costs_nothing():
    losses = binary_losses("bce+dice", torch.full((1, 1, 8, 8), -50.0), torch.zeros(1, 1, 8, 8))
    assert all(loss.item() == pytest.approx(0, abs=1e-6) for loss in losses.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_float32(dtype):
    """A sum over a batch of 6 x 512 x 512 pixels overflows float16 and loses pixels in bfloat16."""
    logits, target = torch.zeros(6, 1, 512, 512, dtype=dtype), torch.ones(6, 1, 512, 512)
    for loss in binary_losses("bce+dice", logits, target).values():
        assert loss.dtype == torch.float32
    assert soft_dice_loss(logits, target).item() == pytest.approx(1 - 1 / 1.5, rel=1e-5)


def test_foreground_is_any_label():
    labels = torch.tensor([[[0, 1], [300, 70_000]]], dtype=torch.int32)
    target = foreground(labels)
    assert target.dtype == torch.float32
    assert target.tolist() == [[[[0, 1], [1, 1]]]]
