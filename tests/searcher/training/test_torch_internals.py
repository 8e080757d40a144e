"""What we use of torch's optimisers beyond what they document, and why."""

import copy
import inspect
import sys

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from searcher.study.config import OptimizerConfig
from searcher.training import torch_internals
from searcher.training.optimizers import build_optimizer


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports torch's compiler fails."""
    for name in torch_internals._NAMES:
        function = inspect.unwrap(getattr(Optimizer, name))
        if hasattr(function, torch_internals._REMEMBERED):
            monkeypatch.delattr(function, torch_internals._REMEMBERED)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)


def net() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(-0.5, 1, parameter.numel()).reshape(parameter.shape))
    return module


def train(module: nn.Module, optimizer: Optimizer) -> list[torch.Tensor]:
    """Return the parameters after two steps."""
    images = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        module(images).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_torchs_optimisers_import_the_compiler_without_us(kind, no_compiler):
    """Should a newer torch do without it, all of this can go."""
    with pytest.raises(ImportError):
        kind(net().parameters(), lr=0.1)


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_a_training_needs_no_compiler_and_its_steps_are_torchs(name, kind, no_compiler, monkeypatch):
    module = net()
    optimizer = build_optimizer(module, OptimizerConfig(name=name, lr=0.1, weight_decay=0.0))
    assert type(optimizer) is kind
    found = train(module, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    monkeypatch.undo()
    reference = net()
    groups = [
        {"params": [p for p in reference.parameters() if p.ndim >= 2]},
        {"params": [p for p in reference.parameters() if p.ndim < 2]},
    ]
    momentum = {"momentum": OptimizerConfig().momentum} if name == "sgd" else {}
    expected = train(reference, kind(groups, lr=0.1, weight_decay=0.0, **momentum))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_its_hooks_are_called_and_no_gradient_is_kept(no_compiler):
    module = net()
    optimizer = build_optimizer(module, OptimizerConfig(name="adamw"))
    called: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append(f"after, {torch.is_grad_enabled()}"))
    assert all(parameter.grad_fn is None for parameter in train(module, optimizer))
    assert called == 2 * ["before", "after, True"], "the step alone is without gradients"
    assert torch.is_grad_enabled()


def test_another_optimiser_makes_its_steps_as_it_likes():
    class Own(Optimizer):
        def step(self, closure=None):
            return 7

    optimizer = Own(net().parameters(), {})
    torch_internals.spare_compiler(optimizer)
    assert "step" not in vars(optimizer)
    assert optimizer.step() == 7
