"""Trained networks and images to measure them on, in a second: for the verbs that take checkpoints and bundles."""

from pathlib import Path

import numpy as np
from PIL import Image

from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands

SETTINGS = [
    "data.synthetic_images=12", "data.synthetic_size_px=64", "augment.crop_px=64", "model.base_channels=2",
    "model.depth=2", "data.samples_per_epoch=16", "tuning.postprocess=true", "study.objective=pixel_dice",
    "model.head=binary", "model.loss=bce+dice",
]  # fmt: skip


def make_runs(root: Path) -> None:
    """Two trials of one epoch, `plain` and `tta`, tuned for the mean of 8 views; and `data`: images with labels."""
    source = SyntheticGlands(num_images=4, size_px=64, seed=7)
    for kind in ("images", "labels"):
        (root / "data" / kind).mkdir(parents=True)
    for index in range(4):
        image, labels = source.read(index)
        Image.fromarray(image).save(root / "data" / "images" / f"{index}.png")
        Image.fromarray(labels.astype(np.uint16)).save(root / "data" / "labels" / f"{index}.png")
    for name, more in (("plain", []), ("tta", ["tuning.tta=true"])):
        options = [part for setting in SETTINGS + more for part in ("--set", setting)]
        train = ["train", "--study", "unet-demo", "--epochs", "1", "--storage", str(root / name), *options]
        assert main(train) == 0


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of one of the two trials."""
    [run] = (root / name / "unet-demo").iterdir()
    return run
