"""The moving average of weights, against values worked out by hand."""

import pytest
import torch
from torch import nn

from searcher.training.ema import WeightAverage


def scalar_net(value: float) -> nn.Linear:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def test_the_decay_ramps_up_to_its_limit():
    net = scalar_net(0.0)
    average = WeightAverage(net, decay=0.2)
    nn.init.constant_(net.weight, 1.0)
    average.update(net)  # decay 2/11: 0 + (1 - 2/11)
    assert average.model.weight.item() == pytest.approx(9 / 11)
    average.update(net)  # min(0.2, 3/12) = 0.2: 1 - 0.2 * (2/11)
    assert average.model.weight.item() == pytest.approx(1 - 0.2 * 2 / 11)


def test_it_is_a_copy_that_does_not_train():
    net = scalar_net(1.0)
    average = WeightAverage(net, decay=0.9)
    nn.init.constant_(net.weight, 5.0)
    assert average.model.weight.item() == 1.0
    assert not average.model.weight.requires_grad
    assert not average.model.training
    assert net.weight.requires_grad


def test_running_statistics_are_averaged_and_counters_copied():
    norm = nn.BatchNorm2d(1)
    average = WeightAverage(norm, decay=0.9)
    norm.running_mean.fill_(11.0)
    norm.num_batches_tracked.fill_(7)
    average.update(norm)
    assert average.model.running_mean.item() == pytest.approx(9.0)  # 0 + 9/11 of 11
    assert average.model.num_batches_tracked.item() == 7


def test_state_goes_round():
    net = scalar_net(0.0)
    first, second = WeightAverage(net, decay=0.99), WeightAverage(net, decay=0.99)
    nn.init.constant_(net.weight, 1.0)
    for _ in range(3):
        first.update(net)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update(net)
    assert torch.equal(first.model.weight, second.model.weight)
