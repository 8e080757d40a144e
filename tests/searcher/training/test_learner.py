"""One optimiser step: what it does to the weights, and when it does nothing."""

import math

import numpy as np
import pytest
import torch

from searcher.exceptions import NonFiniteLossError
from searcher.models.values import TensorBatch
from searcher.study.objectives import Objective
from searcher.training.learner import Learner
from searcher.training.optimizers import build_optimizer

CPU = torch.device("cpu")


def learner(config, *, steps_per_epoch=5, micro_batches=1):
    torch.manual_seed(0)
    return Learner(
        config,
        Objective("loss"),
        device=CPU,
        dtype=torch.float32,
        steps_per_epoch=steps_per_epoch,
        micro_batches=micro_batches,
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


def test_a_step_returns_the_losses_before_it_by_name(tiny, batch):
    one = learner(tiny(model={"loss": "bce+dice"}))
    with torch.no_grad():
        expected = {name: float(loss) for name, loss in one.model.training_step(batch).items()}
    assert expected.keys() == {"bce", "dice"}
    assert one.learn(batch) == pytest.approx(expected, rel=1e-6)
    assert sum(one.learn(batch).values()) < sum(expected.values())


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


def crops(num_images, *, seed=0):
    rng = np.random.default_rng(seed)
    return TensorBatch(
        images=torch.from_numpy(rng.integers(0, 256, (num_images, 16, 16, 3), dtype=np.uint8)),
        labels=torch.from_numpy(rng.integers(0, 3, (num_images, 16, 16), dtype=np.int32)),
    )


PLAIN_SGD = {"name": "sgd", "lr": 1.0, "momentum": 0.0}  # moves the weights by exactly the gradients


def gradients(config, batch, *, micro_batches):
    """Return the loss and the gradients of one step as float64, and the sizes of the parts that it was made in."""
    one = learner(config, micro_batches=micro_batches)
    one.model.double()  # the network; losses are float32 always
    sizes, training_step = [], one.model.training_step

    def record(part):
        assert len(part.images) == len(part.labels)
        sizes.append(len(part.images))
        return training_step(part)

    one.model.training_step = record
    before = weights(one.model)
    loss = one.learn(batch)
    after = dict(one.model.named_parameters())
    return loss, {name: (before[name] - after[name]).detach() for name in after}, sizes


def relative_difference(ours, expected):
    largest = max(float(value.abs().max()) for value in expected.values())
    return max(float((ours[name] - expected[name]).abs().max()) for name in expected) / largest


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize(
    ("micro_batches", "expected_sizes"), [(2, [3, 2]), (3, [2, 2, 1]), (5, [1] * 5), (9, [1] * 5)]
)
def test_a_batch_in_parts_has_the_gradients_of_the_whole(tiny, norm, micro_batches, expected_sizes):
    config = tiny(optimizer=PLAIN_SGD, model={"norm": norm})
    batch = crops(5)
    loss, expected, whole = gradients(config, batch, micro_batches=1)
    parted_loss, parted, sizes = gradients(config, batch, micro_batches=micro_batches)
    assert (whole, sizes) == ([5], expected_sizes)
    assert parted_loss == pytest.approx(loss, rel=1e-6)
    # The loss and its gradient at the logits are float32, 24 bits, summed over 5 * 256 pixels: an error of about
    # 2**-24 times a few. Parts of 3 and 2 images weighted equally would be wrong by some 10%.
    assert relative_difference(parted, expected) < 1e-6


@pytest.mark.parametrize("model", [{"norm": "batch"}, {"loss": "dice"}])
def test_batch_norm_and_a_loss_over_the_batch_make_another_step_of_parts(tiny, model):
    config = tiny(optimizer=PLAIN_SGD, model=model)
    _, expected, _ = gradients(config, crops(4), micro_batches=1)
    _, parted, _ = gradients(config, crops(4), micro_batches=2)
    assert relative_difference(parted, expected) > 1e-3


def test_a_batch_that_is_not_split_makes_the_plain_step_bit_by_bit(tiny):
    config = tiny(model={"norm": "batch", "loss": "bce+dice"}, optimizer={"name": "adamw", "lr": 1e-2})
    one, plain = learner(config, micro_batches=1), learner(config)
    optimizer = build_optimizer(plain.model, config.optimizer)
    for seed in range(3):
        batch = crops(3, seed=seed)
        optimizer.zero_grad()
        torch.stack([*plain.model.training_step(batch).values()]).sum().backward()
        optimizer.step()
        one.learn(batch)
    assert changed(weights(one.model), plain.model) == []
    assert changed(weights(learner(config).model), plain.model)


def test_parts_need_only_their_share_of_the_memory_for_activations(tiny):
    held = {"now": 0, "peak": 0}

    class Saved:
        """A tensor that the backward pass keeps, counted for as long as it does."""

        def __init__(self, tensor):
            self.tensor, self.num_bytes = tensor, tensor.nbytes
            held["now"] += self.num_bytes
            held["peak"] = max(held["peak"], held["now"])

        def __del__(self):
            held["now"] -= self.num_bytes

    peaks = {}
    for micro_batches in (1, 4):
        one = learner(tiny(model={"norm": "group"}), micro_batches=micro_batches)
        kernels = {parameter.data_ptr() for parameter in one.model.parameters()}

        def keep(tensor, kernels=kernels):
            return tensor if tensor.data_ptr() in kernels else Saved(tensor)

        held["peak"] = 0
        with torch.autograd.graph.saved_tensors_hooks(
            keep, lambda kept: kept.tensor if isinstance(kept, Saved) else kept
        ):
            one.learn(crops(8))
        peaks[micro_batches] = held["peak"]
        assert held["now"] == 0
    assert peaks[1] > 100_000
    assert peaks[4] == pytest.approx(peaks[1] / 4, rel=0.01)


@pytest.mark.parametrize("poisoned", [0, 1])
def test_a_loss_that_is_not_finite_in_one_part_moves_nothing(tiny, poisoned):
    one = learner(tiny(train={"ema_decay": 0.9}), micro_batches=2)
    one.learn(crops(4))
    training_step, parts = one.model.training_step, []

    def poison(part):
        parts.append(part)
        losses = training_step(part)
        return {"bce": losses["bce"] * math.nan} if len(parts) == poisoned + 1 else losses

    one.model.training_step = poison
    before, average = weights(one.model), weights(one.evaluated)
    with pytest.raises(NonFiniteLossError, match=r"loss 'bce' became nan at epoch 1, step 2"):
        one.learn(crops(4))
    assert one.num_steps == 1
    assert changed(before, one.model) == []
    assert changed(average, one.evaluated) == []
