"""An exponential moving average of a network's weights."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """A copy of a network that holds the exponential moving average of the trained weights.

    The n-th update, from 1, is `average += (1 - d) (weights - average)` with `d = min(decay, (1 + n) / (10 + n))`: the
    ramp of TensorFlow's `ExponentialMovingAverage(num_updates)`, so that a trial of few steps is not left with an
    average of mostly its initial weights. Floating-point buffers (batch norm's running statistics) are averaged too,
    because average weights have other activations than trained ones. Other buffers are copied.

    Args:
        model: Network to average; it is copied. It should not be compiled yet.
        decay: Largest decay of the average, in (0, 1).
    """

    def __init__(self, model: M, *, decay: float) -> None:
        assert 0.0 < decay < 1.0, decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        """The averaged network, in evaluation mode."""
        self.model.eval()
        self._decay = decay
        self._num_updates = 0

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Update the average with the present weights of `model`."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        # All at once: one by one they are hundreds of kernels on a GPU.
        average_all = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average_all(_tensors(self.model, floating=True), _tensors(model, floating=True), self._num_updates)
        counts = zip(_tensors(self.model, floating=False), _tensors(model, floating=False), strict=True)
        for average, value in counts:
            average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return {"weights": self.model.state_dict(), "num_updates": self._num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the average from the result of `state_dict`."""
        self.model.load_state_dict(state["weights"])
        self._num_updates = int(state["num_updates"])


def _tensors(model: nn.Module, *, floating: bool) -> list[torch.Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point() == floating]
