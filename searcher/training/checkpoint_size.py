"""How large a checkpoint will be, before there is one."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from searcher.models.registry import build_model
from searcher.models.settings import ModelSettings, PostprocessSettings
from searcher.study.config import OptimizerConfig, TrialConfig, WarmStartConfig
from searcher.training.freezing import freeze
from searcher.training.optimizers import build_optimizer

__all__ = ["checkpoint_bytes"]

_FIXED_BYTES = 20 * 2**10
"""The states of the random generators (17 KiB), configuration, metrics."""
_RECORD_BYTES = 270
"""Bytes that torch's archive needs for a tensor in addition to its values: name, alignment, checksum, directory
entry."""
_STEP_BYTES = 4
"""Adam counts the steps of every parameter in a float32 of its own."""


def checkpoint_bytes(config: TrialConfig) -> int:
    """Return the estimated size of a trial's checkpoint file in bytes, accurate to 5% and some KiB.

    The network is built without memory for its weights, so the estimate is fast for any size. It counts weights and
    buffers (twice if the configuration keeps an average), the optimiser's state, and the file's overhead.

    Args:
        config: Configuration of the trial, with sizes and channels resolved.
    """
    network = _network(config.model, config.warm_start)
    num_copies = 2 if config.train.ema_decay else 1
    num_moments, counts_steps = _optimizer_state(config.optimizer)
    num_tensors = num_copies * network.num_tensors + (num_moments + counts_steps) * network.num_trainable
    return (
        num_copies * network.num_bytes
        + num_moments * network.num_trainable_bytes
        + counts_steps * _STEP_BYTES * network.num_trainable
        + num_tensors * _RECORD_BYTES
        + _FIXED_BYTES
    )


@dataclass(frozen=True)
class _Network:
    """What the tensors of a network add up to."""

    num_tensors: int
    num_bytes: int
    num_trainable: int
    """Tensors that the optimiser changes."""
    num_trainable_bytes: int


@functools.lru_cache(maxsize=256)
def _network(settings: ModelSettings, warm_start: WarmStartConfig) -> _Network:
    with torch.device("meta"), _WithoutDrawing():  # shapes without memory
        model = build_model(settings, PostprocessSettings())
        freeze(model, warm_start.freeze)
    kept = [*model.state_dict().values()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return _Network(
        num_tensors=len(kept),
        num_bytes=sum(tensor.nbytes for tensor in kept),
        num_trainable=len(trainable),
        num_trainable_bytes=sum(tensor.nbytes for tensor in trainable),
    )


class _WithoutDrawing(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled with random numbers.

    Without memory there is nothing to fill, but torch (2.15) imports its compiler to find that out, which takes
    seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.normal_ or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@functools.lru_cache(maxsize=256)
def _optimizer_state(config: OptimizerConfig) -> tuple[int, int]:
    """Return how many tensors of a parameter's own size the optimiser keeps for it, and how many of one number.

    Found out by a step on one small parameter, so that it holds for a plug-in's optimiser too.
    """
    kernel = nn.Parameter(torch.ones(3, 5))
    kernel.grad = torch.ones(3, 5)
    owner = nn.Module()
    owner.kernel = kernel
    optimizer = build_optimizer(owner, config)
    optimizer.step()
    kept = [value for value in optimizer.state[kernel].values() if isinstance(value, torch.Tensor)]
    num_moments = sum(value.shape == kernel.shape for value in kept)
    return num_moments, len(kept) - num_moments
