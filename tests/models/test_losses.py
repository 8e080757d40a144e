"""Losses by hand calculation."""

import math

import pytest
import torch

from searcher.models.losses import (
    binary_cross_entropy,
    binary_focal_loss,
    binary_losses,
    class_losses,
    cross_entropy,
    distance_loss,
    focal_loss,
    soft_dice_loss,
    soft_dice_loss_of_classes,
)


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


# ---- weights and focus ----

WEIGHT = torch.tensor([1.0, 11.0, 1.0, 2.0]).view(1, 1, 2, 2)


def test_weights_multiply_each_pixels_loss_and_the_mean_is_over_pixels():
    nats = [-math.log(p) for p in (0.9, 0.8, 0.5, 0.6)]
    expected = (nats[0] + 11 * nats[1] + nats[2] + 2 * nats[3]) / 4
    assert binary_cross_entropy(LOGITS, TARGET, weight=WEIGHT).item() == pytest.approx(expected)


def test_focal_loss_counts_by_how_wrong_a_pixel_is():
    expected = -sum((1 - p) ** 1.5 * math.log(p) for p in (0.9, 0.8, 0.5, 0.6)) / 4
    assert binary_focal_loss(LOGITS, TARGET, gamma=1.5).item() == pytest.approx(expected)
    weighted = -sum(
        w * (1 - p) ** 2 * math.log(p) for w, p in zip((1, 11, 1, 2), (0.9, 0.8, 0.5, 0.6), strict=True)
    )
    found = binary_focal_loss(LOGITS, TARGET, gamma=2.0, weight=WEIGHT)
    assert found.item() == pytest.approx(weighted / 4)


def test_focal_loss_without_a_focus_is_cross_entropy():
    assert binary_focal_loss(LOGITS, TARGET, gamma=0.0) == binary_cross_entropy(LOGITS, TARGET)
    assert focal_loss(CLASS_LOGITS, CLASSES, gamma=0.0) == cross_entropy(CLASS_LOGITS, CLASSES)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("certainty", [-1e4, -30.0, 30.0, 1e4])
def test_focal_loss_of_the_certain_is_finite_and_so_is_its_gradient(gamma, certainty):
    logits = torch.full((1, 1, 2, 2), certainty, requires_grad=True)
    loss = binary_focal_loss(logits, TARGET, gamma=gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


# ---- several classes ----

PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.3, 0.4, 0.3]]
"""Of background, inside, contour, at each of four pixels."""
CLASS_LOGITS = torch.tensor(PROBABILITIES).log().T.reshape(1, 3, 2, 2)
CLASSES = torch.tensor([[[0, 1], [2, 0]]])
RIGHT = (0.7, 0.6, 0.5, 0.3)
"""The probability of the pixel's class."""


def test_cross_entropy_of_classes():
    expected = -sum(math.log(p) for p in RIGHT) / 4
    assert cross_entropy(CLASS_LOGITS, CLASSES).item() == pytest.approx(expected)
    weighted = -sum(w * math.log(p) for w, p in zip((1, 11, 1, 2), RIGHT, strict=True)) / 4
    assert cross_entropy(CLASS_LOGITS, CLASSES, weight=WEIGHT).item() == pytest.approx(weighted)


def test_focal_loss_of_classes():
    expected = -sum((1 - p) ** 2 * math.log(p) for p in RIGHT) / 4
    assert focal_loss(CLASS_LOGITS, CLASSES, gamma=2.0).item() == pytest.approx(expected)


def test_dice_of_classes_is_the_mean_over_inside_and_contour_without_background():
    inside = 1 - (2 * 0.6 + 1) / ((0.2 + 0.6 + 0.25 + 0.4) + 1 + 1)
    contour = 1 - (2 * 0.5 + 1) / ((0.1 + 0.3 + 0.5 + 0.3) + 1 + 1)
    assert soft_dice_loss_of_classes(CLASS_LOGITS, CLASSES).item() == pytest.approx((inside + contour) / 2)


def test_two_classes_are_one_logit():
    """A softmax over (0, x) is the sigmoid of x: both families of losses must agree."""
    logits = torch.cat([torch.zeros_like(LOGITS), LOGITS], dim=1)
    name, options = "ce+focal+dice", {"weight": WEIGHT, "focal_gamma": 1.7}
    binary = binary_losses(name, LOGITS, TARGET, **options)
    classes = class_losses(name, logits, TARGET[:, 0].long(), **options)
    assert binary.keys() == classes.keys()
    for part, loss in binary.items():
        assert classes[part].item() == pytest.approx(loss.item()), part


@pytest.mark.parametrize("losses", [binary_losses, class_losses])
def test_bce_is_ce_by_another_name(losses):
    logits, target = (LOGITS, TARGET) if losses is binary_losses else (CLASS_LOGITS, CLASSES)
    (by_one,), (by_other,) = losses("ce", logits, target).items(), losses("bce", logits, target).items()
    assert by_one == ("ce", by_other[1])
    assert by_other[0] == "bce"


@pytest.mark.parametrize("certainty", [-100.0, 0.0, 100.0])
def test_classes_without_a_gland_have_finite_losses_and_gradients(certainty):
    logits = torch.full((2, 3, 8, 8), 0.0)
    logits[:, 1] = certainty
    logits.requires_grad_()
    losses = class_losses("ce+focal+dice", logits, torch.zeros(2, 8, 8, dtype=torch.int64))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert torch.isfinite(logits.grad).all()


def test_losses_of_half_precision_classes_are_float32():
    logits, classes = torch.zeros(6, 3, 512, 512, dtype=torch.bfloat16), torch.ones(6, 512, 512).long()
    for name, loss in class_losses("ce+focal+dice", logits, classes).items():
        assert loss.dtype == torch.float32, name
    assert cross_entropy(logits, classes).item() == pytest.approx(math.log(3), rel=1e-5)


# ---- distance ----


def test_distance_loss_is_squared_near_the_truth_and_linear_far_from_it():
    prediction = torch.tensor([0.5, 0.55, 1.5, -2.0], dtype=torch.bfloat16).view(1, 1, 2, 2)
    target = torch.tensor([0.5, 0.5, 1.0, 0.0]).view(1, 1, 2, 2)
    near = float(torch.tensor(0.55, dtype=torch.bfloat16)) - 0.5
    expected = (0 + near**2 / 0.2 + (0.5 - 0.05) + (2.0 - 0.05)) / 4
    loss = distance_loss(prediction, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected)
