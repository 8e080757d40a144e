"""One optimiser step: what it does to the weights, and when it does nothing."""

import math

import numpy as np
import pytest
import torch

from models.base import TensorBatch
from searcher.exceptions import NonFiniteLossError
from searcher.study.objectives import Objective
from searcher.training.learner import Learner

CPU = torch.device("cpu")


def learner(config, *, steps_per_epoch=5):
    torch.manual_seed(0)
    return Learner(
        config,
        Objective("loss"),
        device=CPU,
        dtype=torch.float32,
        steps_per_epoch=steps_per_epoch,
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return TensorBatch(
        images=torch.from_numpy(rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)),
        labels=torch.from_numpy(rng.integers(0, 3, (2, 16, 16), dtype=np.int32)),
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, model):
    return [name for name, value in model.state_dict().items() if not torch.equal(before[name], value)]


def test_a_step_returns_the_loss_before_it(tiny, batch):
    one = learner(tiny(model={"loss": "bce+dice"}))
    with torch.no_grad():
        expected = sum(float(loss) for loss in one.model.training_step(batch).values())
    assert one.learn(batch) == pytest.approx(expected, rel=1e-6)
    assert one.learn(batch) < expected


def test_one_sgd_step_by_hand(tiny, batch):
    one = learner(
        tiny(
            optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5},
            model={"norm": "batch"},
        )
    )
    before = weights(one.model)
    one.model.train()
    for loss in one.model.training_step(batch).values():
        loss.backward()
    gradients = {name: p.grad.clone() for name, p in one.model.named_parameters()}
    one.model.load_state_dict(before)
    one.learn(batch)
    for name, parameter in one.model.named_parameters():
        decay = 0.5 if parameter.ndim > 1 else 0.0
        expected = before[name] - 0.1 * (gradients[name] + decay * before[name])
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_norm_of_all_gradients_together(tiny, batch):
    # SGD with rate 1 and no momentum moves the weights by exactly the gradients.
    sgd = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    lengths = {}
    for limit in (0.0, 1e-3):
        one = learner(tiny(optimizer=sgd, train={"grad_clip_norm": limit}))
        before = weights(one.model)
        one.learn(batch)
        moved = [value - before[name] for name, value in one.model.state_dict().items()]
        lengths[limit] = math.sqrt(sum(float((m.double() ** 2).sum()) for m in moved))
    assert lengths[0.0] > 0.01
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_the_step_uses_the_schedules_rate(tiny, batch):
    one = learner(
        tiny(
            optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0},
            schedule={"name": "constant", "warmup_epochs": 1.8},  # 9 steps: the first has a tenth of the peak
        )
    )
    other = learner(tiny(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0}))
    one.learn(batch)
    other.learn(batch)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_loss_that_is_not_finite_moves_nothing(tiny, batch, value, ema_decay):
    one = learner(tiny(train={"ema_decay": ema_decay}, model={"loss": "bce+dice"}), steps_per_epoch=2)
    for _ in range(3):
        one.learn(batch)
    with torch.no_grad():
        one.model.classifier.bias.fill_(value)
    before, average = weights(one.model), weights(one.evaluated)
    with pytest.raises(NonFiniteLossError, match=r"loss '(bce|dice)' became (nan|inf) at epoch 2, step 2"):
        one.learn(batch)
    assert one.num_steps == 3
    for name, expected in before.items():
        torch.testing.assert_close(one.model.state_dict()[name], expected, equal_nan=True, rtol=0, atol=0)
    for name, expected in average.items():
        torch.testing.assert_close(one.evaluated.state_dict()[name], expected, equal_nan=True, rtol=0, atol=0)


def test_gradients_that_are_not_finite_move_nothing_when_they_are_clipped(tiny, batch):
    one = learner(tiny(train={"grad_clip_norm": 1.0}))
    one.model.classifier.weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights(one.model)
    with pytest.raises(NonFiniteLossError, match=r"the gradients' norm became (nan|inf) at epoch 1, step 1"):
        one.learn(batch)
    assert changed(before, one.model) == []


def test_the_average_is_evaluated_where_there_is_one(tiny, batch):
    plain, averaged = learner(tiny()), learner(tiny(train={"ema_decay": 0.9}))
    assert plain.evaluated is plain.model
    assert averaged.evaluated is averaged.average.model
    averaged.learn(batch)
    assert changed(weights(averaged.model), averaged.evaluated)


def test_kernels_are_channels_last(tiny):
    kernel = learner(tiny()).model.encoder[0][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
