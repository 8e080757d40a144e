"""How much private memory a process that streams one epoch needs, for a dataset and for one 10 times larger.

    python tests/benchmarks/stream_memory.py

What counts is `Private_Dirty` of /proc/self/smaps_rollup: pages that belong to this process alone and that the
kernel cannot drop, such as the batch buffers. Pages of the mapped store are clean: the kernel drops them when
memory is short, and all processes that map the store share them. (With a single such process the kernel reports
them as `Private_Clean`, which is why "private memory" as many tools add it up, USS, grows with the pixels seen.)

Prints one line of JSON: bytes for both sizes, and the growth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline import BatchStream, Sample, Store, build_augmentation, prepare_store
from searcher.data_pipeline.datasets.samples import RGB

FACTOR = 10


class NoiseImages:
    """A source of noise: memory does not ask what is in an image."""

    kind = "noise"
    name = "noise"
    channels = RGB
    dtype = "uint8"

    def __init__(self, num_images: int, height: int, width: int) -> None:
        self._shape = (height, width)
        self.samples = [Sample(f"noise_{i}", "train", str(i), "") for i in range(num_images)]

    def fingerprint(self) -> str:
        return f"noise-{len(self.samples)}"

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (*self._shape, 3), dtype=np.uint8), np.ones(self._shape, np.int32)


def stream_one_epoch(path: Path) -> dict[str, int]:
    """Stream every image of a store once, and return this process's memory in bytes, by kind."""
    store = Store.open(path)
    augmentation = build_augmentation("poster", crop_px=256, strength=1.0)
    with BatchStream(
        store, store.indices("train"), batch_size=6, augmentation=augmentation, seed=0, num_threads=2
    ) as stream:
        for batch in stream.epoch(0):
            assert len(batch.ids) > 0
        rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kinds = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup}
    return {kind: kinds[kind] for kind in ("Rss", "Private_Dirty", "Private_Clean", "Shared_Clean")}


def measure(num_images: int, height: int, width: int, scratch: Path) -> dict[str, int]:
    """Return what a fresh process that streams `num_images` needs."""
    store = prepare_store(NoiseImages(num_images, height, width), scratch)
    run = subprocess.run(
        [sys.executable, __file__, "--stream", str(store.path)], capture_output=True, text=True, check=True
    )
    answer: dict[str, int] = json.loads(run.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40, help="in the smaller dataset")
    parser.add_argument("--height", type=int, default=522)
    parser.add_argument("--width", type=int, default=775)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        print(json.dumps(stream_one_epoch(arguments.stream)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        small, large = (
            measure(num_images, arguments.height, arguments.width, Path(scratch))
            for num_images in (arguments.images, FACTOR * arguments.images)
        )
    growth = large["Private_Dirty"] - small["Private_Dirty"]
    print(json.dumps({"small": small, "large": large, "private_growth": growth}))


if __name__ == "__main__":
    main()
