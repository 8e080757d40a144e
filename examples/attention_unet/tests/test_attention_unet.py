"""The network and the loss do what training relies on."""

import pytest
import torch
from attention_unet import AttentionUNet, Tversky

from searcher.testing import check_loss, check_model


@pytest.mark.parametrize("settings", [{}, {"head": "contour", "loss": "ce+tversky", "channels": 1}], ids=str)
def test_the_network_does_what_training_relies_on(settings):
    check_model(AttentionUNet, **settings)


def test_the_loss_does_what_training_relies_on():
    check_loss(Tversky)
    check_loss("tversky", alpha=0.9, beta=0.1)


def test_a_missed_pixel_costs_more_than_one_too_many():
    """Of 4 pixels 2 are there. By hand: 1 - (1 + 1) / (1 + 0.7 + 1) and 1 - (2 + 1) / (2 + 0.3 + 1)."""
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])
    missed, too_many = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert Tversky().of_region(missed, target).item() == pytest.approx(1 - 2 / 2.7)
    assert Tversky().of_region(too_many, target).item() == pytest.approx(1 - 3 / 3.3)
    assert Tversky(alpha=1.0).of_region(too_many, target).item() == pytest.approx(1 - 3 / 4)
