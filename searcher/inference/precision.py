"""Which device trains, and in which number format."""

from typing import Literal

import torch

from searcher.exceptions import UserError

__all__ = ["autocast", "default_device", "resolve_precision"]


def default_device() -> torch.device:
    """Return the first CUDA device, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Return the number format for matrix products and convolutions. Weights are always float32.

    Args:
        precision: `auto` means bfloat16 on CUDA devices that support it, otherwise float32.
        device: Device to compute on.

    Raises:
        UserError: `bfloat16` is requested on a CUDA device that does not support it.
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
    """Return a context manager for forward passes in a number format; it does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
