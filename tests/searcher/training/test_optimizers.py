"""Which optimiser is built, and where weight decay applies."""

import pytest
import torch
from torch import nn

from searcher.study.config import OptimizerConfig
from searcher.training.optimizers import build_optimizer, parameter_groups


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def test_decay_applies_to_kernels_and_to_nothing_else():
    net = small_net()
    decayed, undecayed = parameter_groups(net, weight_decay=0.05)
    assert decayed["weight_decay"] == 0.05
    assert undecayed["weight_decay"] == 0.0
    assert [id(p) for p in decayed["params"]] == [id(net[0].weight), id(net[3].weight)]
    expected = [net[0].bias, net[1].weight, net[1].bias, net[3].bias]
    assert [id(p) for p in undecayed["params"]] == [id(p) for p in expected]


def test_frozen_parameters_are_left_out():
    net = small_net()
    net[0].requires_grad_(False)
    groups = parameter_groups(net, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == 4


def test_a_network_without_biases_has_no_empty_group():
    groups = parameter_groups(nn.Conv2d(3, 4, 3, bias=False), weight_decay=0.1)
    assert [len(group["params"]) for group in groups] == [1]


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_every_optimizer_takes_rate_and_decay_from_the_configuration(name, kind):
    optimizer = build_optimizer(small_net(), OptimizerConfig(name=name, lr=0.02, weight_decay=0.3))
    assert type(optimizer) is kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


def test_sgd_takes_its_momentum():
    optimizer = build_optimizer(small_net(), OptimizerConfig(name="sgd", momentum=0.7, nesterov=True))
    assert {group["momentum"] for group in optimizer.param_groups} == {0.7}
    assert {group["nesterov"] for group in optimizer.param_groups} == {True}


def one_step(name: str, *, gradient: float, lr=0.1, weight_decay=0.5) -> tuple[float, float]:
    """Return a kernel and a bias that were 2, after one step with that gradient."""
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.fill_(2.0)
    net.weight.grad, net.bias.grad = torch.full((1, 1), gradient), torch.full((1,), gradient)
    config = OptimizerConfig(name=name, lr=lr, weight_decay=weight_decay, momentum=0.0)
    build_optimizer(net, config).step()
    return net.weight.item(), net.bias.item()


def test_adamw_decays_the_weight_itself():
    # Decoupled: 2 (1 - lr wd) = 1.9, whatever the gradient; no gradient, no other step.
    assert one_step("adamw", gradient=0.0) == pytest.approx((1.9, 2.0))


def test_adam_and_sgd_add_the_decay_to_the_gradient():
    # Adam's first step is lr in the sign of gradient + wd * weight = 1: 2 - 0.1. SGD: 2 - lr (0 + 0.5 * 2).
    assert one_step("adam", gradient=0.0) == pytest.approx((1.9, 2.0))
    assert one_step("adam", gradient=-3.0) == pytest.approx((2.1, 2.1))  # -3 + 1 < 0: upwards, both
    assert one_step("sgd", gradient=1.0) == pytest.approx((2 - 0.1 * (1 + 0.5 * 2), 2 - 0.1))
