"""Layers that keep their weights while the others train."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from searcher.models.base import SegmentationModel

__all__ = ["RUNNING_NORMS", "Frozen", "freeze"]

RUNNING_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
"""torch's norms that can keep running statistics; their common class is private."""


class Frozen(NamedTuple):
    """The names of frozen parameters and buffers, and the frozen normalisation layers."""

    names: frozenset[str]
    """Of parameters and floating-point buffers, as in the state dictionary."""
    norms: tuple[nn.Module, ...]
    """The norms among the layers whose running statistics move in train mode: they are to be kept in eval mode."""


def freeze(model: SegmentationModel, what: Literal["none", "encoder", "all_but_head"]) -> Frozen:
    """Freeze layers of a model: their parameters require no gradients, so an optimiser built later skips them.

    Args:
        model: The model; its `parts` define encoder and head.
        what: `none`, `encoder`, or `all_but_head` for all layers except the head's.

    Returns:
        What is frozen now, including parameters that required no gradients before.
    """
    modules = _modules(model, what)
    tensors: list[Tensor] = []
    for module in modules:
        tensors += module.parameters(recurse=False)
        tensors += module.buffers(recurse=False)
    for tensor in tensors:
        tensor.requires_grad_(False)
    frozen = {id(tensor) for tensor in tensors if tensor.is_floating_point()}
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    return Frozen(
        names=frozenset(name for name, tensor in state.items() if id(tensor) in frozen),
        norms=tuple(module for module in modules if isinstance(module, RUNNING_NORMS)),
    )


def _modules(model: SegmentationModel, what: str) -> Sequence[nn.Module]:
    """Return the modules whose own tensors are frozen."""
    match what:
        case "encoder":
            return [module for part in model.parts().encoder for module in part.modules()]
        case "all_but_head":
            head = {module for part in model.parts().head for module in part.modules()}
            return [module for module in model.modules() if module not in head]
        case _:
            return []
