"""All that we use of torch's optimisers beyond what they document: the one place to look at when torch changes.

Written for torch 2.15. Every name here has a test of its own, which says what the name is for and fails where a newer
torch lacks it (`tests/searcher/training/test_torch_internals.py`).
"""

import inspect
from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _use_grad_for_differentiable

__all__ = ["forget_compiler", "spare_compiler"]

_REMEMBERED = "__dynamo_disable"
"""Attribute of a function in which torch keeps that function as its compiler leaves it alone."""
_NAMES = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
"""Methods that ask the compiler at their first call."""
_ASKS = _use_grad_for_differentiable(lambda: None).__code__
"""What torch's own optimisers have around their step, for the sake of compiled ones."""


def forget_compiler() -> None:
    """Make torch's optimisers work without importing torch's compiler.

    Their methods for building, saving and loading import the compiler only to exclude themselves from it. The import
    takes 3 s of processor time in every process that trains. searcher never calls them from compiled code, where the
    exclusion would matter.
    """
    for name in _NAMES:
        function = inspect.unwrap(getattr(Optimizer, name))
        if not hasattr(function, _REMEMBERED):
            setattr(function, _REMEMBERED, function)


def spare_compiler(optimizer: Optimizer) -> None:
    """Make an optimiser's `step` work without importing torch's compiler; its hooks stay. See `forget_compiler`.

    Args:
        optimizer: Changed in place if its `step` is built like torch's own; others are left unchanged.
    """
    hooked: Any = type(optimizer).step
    asking: Any = getattr(hooked, "__wrapped__", None)
    if getattr(asking, "__code__", None) is not _ASKS:
        return
    plain = asking.__wrapped__

    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return plain(self, *args, **kwargs)

    made: Any = Optimizer.profile_hook_step(step)
    optimizer.step = MethodType(made, optimizer)  # type: ignore[method-assign]
