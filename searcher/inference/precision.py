"""Which device trains, and in which number format."""

from typing import Literal

import torch

from searcher.exceptions import UserError

__all__ = ["autocast", "default_device", "resolve_precision"]


def default_device() -> torch.device:
    """Return the first CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Return the format that matrix products and convolutions run in. Weights are float32 always.

    Args:
        precision: `auto` takes bfloat16 on CUDA devices whose hardware has it, float32 elsewhere.
        device: Device that trains.

    Raises:
        UserError: bfloat16 is configured for a CUDA device without it.
    """
    if precision == "float32" or (precision == "auto" and device.type != "cuda"):
        return torch.float32
    if device.type == "cuda" and not _has_bfloat16(device):
        if precision == "auto":
            return torch.float32
        raise UserError(
            "train.precision: bfloat16 needs a CUDA device of compute capability 8.0 or higher, got "
            f"{torch.cuda.get_device_name(device)}; use 'auto' or 'float32'"
        )
    return torch.bfloat16


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context that forward passes run in; it does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
