"""Images and annotations in, batches out.

    open_dataset, SyntheticGlands   a dataset: names at once, pixels on request
    prepare_store, Store            decoded once, mapped by every process
    split_by_group                  training and validation by patient
    build_augmentation              what happens to an image before the network sees it
    BatchStream                     batches, epoch by epoch
    apply_tiled                     large images in overlapping tiles
    inspect_dataset                 what is in a dataset, and what is wrong with it

Is independent of models and search. A name is imported where it is first used: to read a study file takes no pixels.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from searcher.data_pipeline.augment import PRESETS, Augmentation, build_augmentation
    from searcher.data_pipeline.batch import Batch
    from searcher.data_pipeline.datasets import Sample, SampleSource, SyntheticGlands, open_dataset
    from searcher.data_pipeline.exceptions import DataError
    from searcher.data_pipeline.inspect import DatasetReport, inspect_dataset
    from searcher.data_pipeline.splits import Split, split_by_group
    from searcher.data_pipeline.store import Store, prepare_store
    from searcher.data_pipeline.stream import BatchStream
    from searcher.data_pipeline.tiling import Tile, apply_tiled, stitch, tile_grid

__all__ = [
    "PRESETS",
    "Augmentation",
    "Batch",
    "BatchStream",
    "DataError",
    "DatasetReport",
    "Sample",
    "SampleSource",
    "Split",
    "Store",
    "SyntheticGlands",
    "Tile",
    "apply_tiled",
    "build_augmentation",
    "inspect_dataset",
    "open_dataset",
    "prepare_store",
    "split_by_group",
    "stitch",
    "tile_grid",
]

_HOMES = {
    "Augmentation": "searcher.data_pipeline.augment",
    "Batch": "searcher.data_pipeline.batch",
    "BatchStream": "searcher.data_pipeline.stream",
    "DataError": "searcher.data_pipeline.exceptions",
    "DatasetReport": "searcher.data_pipeline.inspect",
    "PRESETS": "searcher.data_pipeline.augment",
    "Sample": "searcher.data_pipeline.datasets",
    "SampleSource": "searcher.data_pipeline.datasets",
    "Split": "searcher.data_pipeline.splits",
    "Store": "searcher.data_pipeline.store",
    "SyntheticGlands": "searcher.data_pipeline.datasets",
    "Tile": "searcher.data_pipeline.tiling",
    "apply_tiled": "searcher.data_pipeline.tiling",
    "build_augmentation": "searcher.data_pipeline.augment",
    "inspect_dataset": "searcher.data_pipeline.inspect",
    "open_dataset": "searcher.data_pipeline.datasets",
    "prepare_store": "searcher.data_pipeline.store",
    "split_by_group": "searcher.data_pipeline.splits",
    "stitch": "searcher.data_pipeline.tiling",
    "tile_grid": "searcher.data_pipeline.tiling",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
