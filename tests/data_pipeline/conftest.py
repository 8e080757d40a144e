"""Datasets for the tests: small, made up, exact."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.datasets import Sample, SyntheticGlands
from searcher.data_pipeline.datasets.samples import RGB, Pixels
from searcher.data_pipeline.store import Store, prepare_store


class _ArraySource:
    """A source of given arrays, one group each."""

    kind = "arrays"
    name = "arrays"

    def __init__(
        self, items: Sequence[tuple[Pixels, NDArray[np.int32]]], fingerprint: str = "f" * 64
    ) -> None:
        self._items = items
        self._fingerprint = fingerprint
        self.dtype = items[0][0].dtype.name if items else "uint8"
        num_channels = items[0][0].shape[2] if items else 3
        self.channels = RGB if num_channels == 3 else tuple(f"channel {n + 1}" for n in range(num_channels))
        self.samples = [Sample(f"item_{i}", "train", f"group_{i}", "") for i in range(len(items))]

    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, index: int) -> tuple[Pixels, NDArray[np.int32]]:
        return self._items[index]


def _coordinates(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return an image whose red is x and green is y, and a label map with a number of its own for each pixel."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x % 256, y % 256, np.full_like(x, 7)], axis=-1).astype(np.uint8)
    return image, (y * width + x + 1).astype(np.int32)


def _write_glas(
    folder: Path, names: Sequence[str], *, suffix: str = ".bmp", size: tuple[int, int] = (30, 20)
) -> None:
    """Write images and annotations in the release's layout; size is (width, height)."""
    folder.mkdir(exist_ok=True)
    width, height = size
    for number, name in enumerate(names):
        image, _ = _coordinates(height, width)
        labels = np.zeros((height, width), np.uint8)
        labels[2:9, 3:9], labels[2:9, 9:14] = 1, 2 + number
        Image.fromarray(image).save(folder / f"{name}{suffix}")
        Image.fromarray(labels).save(folder / f"{name}_anno{suffix}")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    source = SyntheticGlands(num_images=10, size_px=96, seed=1, num_test_images=2)
    return prepare_store(source, tmp_path_factory.mktemp("store"))


@pytest.fixture
def coordinates() -> Callable[..., tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    return _coordinates


@pytest.fixture
def write_glas() -> Callable[..., None]:
    return _write_glas


@pytest.fixture
def array_source() -> type[_ArraySource]:
    return _ArraySource
