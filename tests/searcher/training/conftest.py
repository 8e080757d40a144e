"""A tiny data set, tiny configurations, a reporter that remembers, and a disk that fills."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import Store, prepare_store
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


class SmallDisk:
    """A file system of its own, and the file that fills it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Write until nothing more fits, then give back whole pages of 4096 bytes."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        assert shutil.disk_usage(self.path).free == 0
        os.truncate(self._ballast, self._ballast.stat().st_size - leave_bytes)

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A real file system of 2 MiB."""
    path = tmp_path / "small-disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", str(path)], check=True)
