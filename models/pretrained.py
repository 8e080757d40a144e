"""Weights trained by others: fetched once by torchvision's own code, or read from a file.

Nothing is unpickled but tensors. Where there is no network, the message says which file is missing and where to put
it. Of several processes that need a file one fetches it, the others wait.
"""

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from filelock import FileLock
from torch import Tensor

from searcher.models.exceptions import WeightsError

__all__ = ["cached_path", "fetch", "read_weights"]

logger = logging.getLogger(__name__)

_REMEDY = "or do without: --set model.weights=none"


def cached_path(weights: Any) -> Path:
    """Return the path at which torch keeps the downloaded file of torchvision weights, below `TORCH_HOME`.

    The file need not exist.

    Args:
        weights: A member of a torchvision `WeightsEnum`.
    """
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def fetch(weights: Any) -> dict[str, Tensor]:
    """Return the state dictionary of torchvision weights, after downloading the file if it is not there.

    Args:
        weights: A member of a torchvision `WeightsEnum`.

    Raises:
        WeightsError: The file is not there and cannot be downloaded, or it is damaged.
    """
    path = cached_path(weights)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path), contextlib.redirect_stdout(io.StringIO()):  # torch prints where it downloads from
            if not path.exists():
                logger.info("fetching %s to %s", weights.url, path)
            state: dict[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
            return state
    except Exception as error:  # Anything: no network, no disk, a damaged file that the reader stumbles over.
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        if path.exists():
            raise WeightsError(
                f"{path}: must be the weights of {weights.url}, got a file that cannot be read ({reason}); "
                f"remove it, {_REMEDY}"
            ) from error
        raise WeightsError(
            f"model.weights: {path.name} could not be fetched from {weights.url} ({reason}); "
            f"put the file at {path}, {_REMEDY}"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dictionary that a file holds: tensors by name.

    Args:
        path: A `.safetensors` file, or a file written by `torch.save`.

    Raises:
        WeightsError: The file does not exist, or holds something else than tensors by name.
    """
    if not path.is_file():
        raise WeightsError(
            f"model.weights: must be none, imagenet, coco or the path of a file, got {path}, where no file is; "
            "check the path"
        )
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except Exception as error:  # Anything, as above.
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise WeightsError(
            f"{path}: must hold weights by name and nothing else, got a file that cannot be read ({reason})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: must hold weights by name and nothing else, got {type(state).__name__}")
    return state


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> Any:
    return importlib.import_module("safetensors.torch").load_file(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock until the block ends; nothing to hold in a folder that only others may write to."""
    if path.exists():
        yield
        return
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield
