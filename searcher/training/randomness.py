"""The random numbers of one trial: seeded, saved, continued, and kept apart from everybody else's."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["RandomState"]


class RandomState:
    """The state of the global random generators (torch, CUDA, numpy, Python) for one trial.

    Dropout and initialisation draw from the global generators. Inside `active()`, these continue with the trial's
    state; outside, they keep the state of the process. So draws by a reporter, a logger or a second trainer do not
    change a trial's training.

    Args:
        seed: Any number from 0. The four generators get unrelated seeds derived from it.
        device: Device that the trial trains on; on CUDA, its generator is included.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        with _preserved(device):
            seeds = np.random.SeedSequence(seed).generate_state(3, np.uint64).tolist()
            torch.manual_seed(seeds[0])
            np.random.seed(seeds[1] % 2**32)  # noqa: NPY002 (third-party code draws from it)
            random.seed(seeds[2])
            self._state = _capture(device)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Context manager in which the global generators have this state; changes are kept for the next time."""
        with _preserved(self._device):
            _restore(self._state, self._device)
            try:
                yield
            finally:
                self._state = _capture(self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values. Do not call it inside `active`."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from the result of `state_dict`, also on another device."""
        self._state = {**self._state, **{key: value for key, value in state.items() if value is not None}}


@contextlib.contextmanager
def _preserved(device: torch.device) -> Iterator[None]:
    outer = _capture(device)
    try:
        yield
    finally:
        _restore(outer, device)


def _capture(device: torch.device) -> dict[str, Any]:
    algorithm, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    assert algorithm == "MT19937", algorithm
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        # As int64: torch's safe unpickler knows no numpy arrays, and not every release its uint32.
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached),
        },
        "python": {
            "version": version,
            "internal": torch.tensor(internal, dtype=torch.int64),
            "gauss_next": gauss_next,
        },
    }


def _restore(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    legacy = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (
            "MT19937",
            legacy["keys"].numpy().astype(np.uint32),
            legacy["position"],
            legacy["has_gauss"],
            legacy["cached_gaussian"],
        )
    )
    python = state["python"]
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["gauss_next"]))
