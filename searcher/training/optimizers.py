"""Optimisers, and which parameters weight decay applies to."""

from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from searcher.parts import Part
from searcher.study.config import OptimizerConfig
from searcher.study.parts import OPTIMIZERS
from searcher.training.torch_internals import forget_compiler, spare_compiler

__all__ = ["adam", "adamw", "build_optimizer", "parameter_groups", "sgd"]

# The groups say which parameters decay, so that none is given a decay for all.
sgd: Part[Optimizer] = Part(SGD)
adam: Part[Optimizer] = Part(Adam)
adamw: Part[Optimizer] = Part(AdamW)


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two optimiser groups: kernels with weight decay, norms and biases without.

    Decay keeps a kernel from growing. A norm's scale or a bias, which are one-dimensional, does not need it (He et al.
    2019, arXiv 1812.01187, section 3.1).

    Args:
        module: The network; parameters that require no gradient are left out.
        weight_decay: Weight decay of parameters with two or more dimensions.

    Returns:
        At most two groups, each with `params` and `weight_decay`; an empty group is left out. Parameters keep the
        module's order, so that an optimiser's saved state fits again.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Return the configured optimiser for the module's trainable parameters.

    Args:
        module: The network, already on its device.
        config: Name, learning rate, weight decay, momentum, and options of a plug-in's optimiser.

    Returns:
        The optimiser; its learning rate is the peak, which a schedule multiplies by a factor.
    """
    groups = parameter_groups(module, weight_decay=config.weight_decay)
    forget_compiler()
    made: Optimizer = OPTIMIZERS[config.name].made(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, options=config.options
    )
    spare_compiler(made)
    return made
