"""A tiny data set, tiny configurations, and a reporter that remembers."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from data_pipeline.datasets import SyntheticGlands
from data_pipeline.store import Store, prepare_store
from searcher.study.config import TrialConfig
from searcher.training.reporter import Decision

TINY: dict[str, dict[str, Any]] = {
    "data": {"num_threads": 1},
    "augment": {"preset": "standard", "crop_px": 48},
    "model": {"base_channels": 4, "depth": 2},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": {"name": "constant"},
    "train": {"epochs": 4, "batch_size": 3},
}


class Recorder:
    """A reporter that keeps every report, and stops after `stop_after` epochs if that is set."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[int] = []
        self.reports: list[dict[str, float]] = []
        self._stop_after = stop_after

    def report(self, epoch: int, metrics: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        self.reports.append(dict(metrics))
        return Decision.STOP if epoch == self._stop_after else Decision.CONTINUE


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten synthetic images of 64 px, of five patients: with `val_fraction` 0.2, eight and two."""
    source = SyntheticGlands(num_images=10, size_px=64, seed=0)
    return prepare_store(source, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrialConfig]:
    """Return a function from sections to the tiny configuration with those values changed."""

    def configure(**sections: dict[str, Any]) -> TrialConfig:
        names = TINY.keys() | sections.keys()
        return TrialConfig.model_validate(
            {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in names}
        )

    return configure


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    """Return the class `Recorder`."""
    return Recorder
