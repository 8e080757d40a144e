"""Trained networks and images to measure them on, in a second: for the verbs that take checkpoints and bundles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands

SETTINGS = [
    "data.synthetic_images=12", "data.synthetic_size_px=64", "augment.crop_px=64", "model.base_channels=2",
    "model.depth=2", "data.samples_per_epoch=16", "tuning.postprocess=true", "study.objective=pixel_dice",
    "model.head=binary", "model.loss=bce+dice",
]  # fmt: skip


_MORE = {"plain": [], "tta": ["tuning.tta=true"]}


def shared_runs(folder: Path) -> Path:
    """Return what `make_runs` makes, made by the first process that asks; nobody writes into it.

    Args:
        folder: That all processes have.
    """
    root, done = folder / "trained", folder / "trained.done"
    with FileLock(folder / "trained.lock"):
        if not done.exists():
            make_runs(root)
            done.touch()
    return root


def make_runs(root: Path, names: Sequence[str] = tuple(_MORE)) -> None:
    """Two trials of one epoch, `plain` and `tta`, tuned for the mean of 8 views; and `data`: images with labels."""
    source = SyntheticGlands(num_images=4, size_px=64, seed=7)
    for kind in ("images", "labels"):
        (root / "data" / kind).mkdir(parents=True)
    for index in range(4):
        image, labels = source.read(index)
        Image.fromarray(image).save(root / "data" / "images" / f"{index}.png")
        Image.fromarray(labels.astype(np.uint16)).save(root / "data" / "labels" / f"{index}.png")
    for name in names:
        options = [part for setting in SETTINGS + _MORE[name] for part in ("--set", setting)]
        train = ["train", "--study", "unet-demo", "--epochs", "1", "--storage", str(root / name), *options]
        assert main(train) == 0


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of one of the two trials."""
    [run] = (root / name / "unet-demo").iterdir()
    return run
