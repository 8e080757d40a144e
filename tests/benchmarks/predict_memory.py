"""How much memory `searcher predict` needs for an image of 20,000 x 20,000 pixels, and for one of 2,000 x 2,000.

    python tests/benchmarks/predict_memory.py [--bundle DIR]

The images are tiled TIFFs of synthetic glands; all outputs are written. Without a bundle, a small U-Net is trained for
two epochs first. What counts is the most memory that the whole process had resident at any time (`ru_maxrss` of that
child), PyTorch and the pages of shared libraries included. Scratch files are read and written, not mapped, so they are
in the kernel's cache and not in that figure.

Prints one line of JSON for each image: side, objects, seconds, peak in MB (10^6 bytes).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from searcher.data_pipeline import SyntheticGlands

SEARCHER = [sys.executable, "-m", "searcher.cli.main"]
TILE_PX = 512
NUM_TISSUES = 16
NETWORK = ["model.base_channels=8", "model.depth=3", "data.synthetic_size_px=128", "augment.crop_px=128"]


def draw(path: Path, side: int) -> None:
    """Write a tiled TIFF of some different tissues, over and over, turned one way or another."""
    source = SyntheticGlands(num_images=NUM_TISSUES, size_px=TILE_PX, seed=0)
    tissues = [source.read(index)[0] for index in range(NUM_TISSUES)]
    rng = np.random.default_rng(0)

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for _ in range((-(-side // TILE_PX)) ** 2):
            yield np.ascontiguousarray(np.rot90(tissues[rng.integers(NUM_TISSUES)], rng.integers(4)))

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="zlib",
        photometric="rgb",
    )


def small_bundle(folder: Path) -> Path:
    """Train a small network and export it."""
    settings = [part for setting in NETWORK for part in ("--set", setting)]
    train = ["train", "--study", "unet-demo", "--epochs", "2", "--storage", str(folder / "runs"), *settings]
    subprocess.run([*SEARCHER, *train], check=True, stdout=sys.stderr)
    [run] = (folder / "runs" / "unet-demo").iterdir()
    export = ["export", str(run / "best.pt"), "--to", str(folder / "bundle")]
    subprocess.run([*SEARCHER, *export], check=True, stdout=sys.stderr)
    return folder / "bundle"


def measure(bundle: Path, side: int, folder: Path) -> dict[str, float]:
    """Return what a fresh process that predicts an image needs."""
    image, outputs = folder / f"side{side}.tif", folder / "out"
    draw(image, side)
    began = time.monotonic()
    child = subprocess.Popen([*SEARCHER, "predict", str(bundle), str(image), "--to", str(outputs)])
    _, status, usage = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    with (outputs / "predictions.csv").open() as file:
        objects = {row["image"]: int(row["objects"]) for row in csv.DictReader(file)}[image.name]
    image.unlink()
    return {
        "side_px": side,
        "objects": objects,
        "seconds": round(time.monotonic() - began),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="of a network; default: a small one is trained")
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 20000], metavar="PX")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        bundle = arguments.bundle or small_bundle(Path(scratch))
        for side in arguments.sides:
            print(json.dumps(measure(bundle, side, Path(scratch))), flush=True)


if __name__ == "__main__":
    main()
