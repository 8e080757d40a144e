"""Images per second of the streaming batch generator, beside what people use instead, in one run.

    python tests/benchmarks/stream_throughput.py --data GLAS      # or without --data, on drawn images of the same size

Poster preset (vertical flip, horizontal flip, 512 px crop, each with p = 0.5, then 512 x 512), batches of 6. All
contestants are warmed up, then take turns; the table has the medians. Each is given its best case: persistent
workers, no start-up counted, MONAI's faster number of workers.

- ours: `BatchStream`, 2 threads.
- plain: a Dataset that reads the files with skimage and augments with albumentations, DataLoader(num_workers=2).
- MONAI: CacheDataset with everything cached that may be, its own transforms, DataLoader.
- ceiling: OpenCV alone. Two threads resize images and labels from the same map into preallocated buffers. It draws
  nothing, turns nothing and waits for nobody; but it resizes every image where half of the poster's are crops
  that need no resizing, which is how ours can come out above it.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import monai
import numpy as np
import skimage.io
import torch
from monai.data import CacheDataset
from monai.data import DataLoader as MonaiDataLoader
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from searcher.data_pipeline import BatchStream, Store, build_augmentation, open_dataset, prepare_store
from searcher.data_pipeline.datasets.tissue import draw_patient, draw_tissue

SIZE_PX = 512
BATCH_SIZE = 6
PASSES = 2  # over the training images in one measurement of the slow contestants

Contestant = Callable[[], float]


def timed(consume: Callable[[], int]) -> float:
    """Return images per second of one consumption, which returns how many images it was."""
    started = time.perf_counter()
    return consume() / (time.perf_counter() - started)


# ---- ours ----


def ours(store: Store, indices: Sequence[int], preset: str) -> Contestant:
    stream = BatchStream(
        store,
        indices,
        batch_size=BATCH_SIZE,
        samples_per_epoch=10 * len(indices),
        augmentation=build_augmentation(preset, crop_px=SIZE_PX, strength=1.0),
        seed=0,
        num_threads=2,
    )
    epochs = iter(range(1_000_000))
    return lambda: timed(lambda: sum(len(batch.ids) for batch in stream.epoch(next(epochs))))


# ---- a plain Dataset ----


class PlainDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """As most people would write it."""

    def __init__(self, images: Sequence[Path], annotations: Sequence[Path]) -> None:
        self.files = list(zip(images, annotations, strict=True)) * PASSES
        self.transform = albumentations.Compose(
            [
                albumentations.VerticalFlip(p=0.5),
                albumentations.HorizontalFlip(p=0.5),
                albumentations.RandomCrop(SIZE_PX, SIZE_PX, pad_if_needed=True, p=0.5),
                albumentations.Resize(SIZE_PX, SIZE_PX),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, annotation = (skimage.io.imread(path) for path in self.files[index])
        made = self.transform(image=image, mask=annotation)
        image = torch.from_numpy(np.ascontiguousarray(made["image"].transpose(2, 0, 1)))
        return image, torch.from_numpy(np.ascontiguousarray(made["mask"]))


def plain(images: Sequence[Path], annotations: Sequence[Path]) -> Contestant:
    loader = DataLoader(
        PlainDataset(images, annotations), BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True
    )
    return lambda: timed(lambda: sum(len(image) for image, _ in loader))


# ---- MONAI ----


def monai_pipeline(images: Sequence[Path], annotations: Sequence[Path], num_workers: int) -> Contestant:
    keys = ["image", "label"]
    crop = monai.transforms.RandSpatialCropd(keys, roi_size=(SIZE_PX, SIZE_PX), random_size=False)
    transform = monai.transforms.Compose(
        [
            monai.transforms.LoadImaged(keys),
            monai.transforms.EnsureChannelFirstd(keys),
            monai.transforms.RandFlipd(keys, prob=0.5, spatial_axis=0),
            monai.transforms.RandFlipd(keys, prob=0.5, spatial_axis=1),
            monai.transforms.OneOf([crop, monai.transforms.Identityd(keys)], weights=[0.5, 0.5]),
            monai.transforms.Resized(keys, spatial_size=(SIZE_PX, SIZE_PX), mode=["bilinear", "nearest"]),
        ]
    )
    files = [{"image": str(i), "label": str(a)} for i, a in zip(images, annotations, strict=True)] * PASSES
    dataset = CacheDataset(files, transform, progress=False, num_workers=2)
    loader = MonaiDataLoader(
        dataset, num_workers, batch_size=BATCH_SIZE, shuffle=True, persistent_workers=num_workers > 0
    )
    return lambda: timed(lambda: sum(len(batch["image"]) for batch in loader))


# ---- the ceiling ----


def ceiling(store: Store, indices: Sequence[int]) -> Contestant:
    indices = list(indices) * 10

    def work(mine: Iterable[int]) -> None:
        images = np.empty((BATCH_SIZE, SIZE_PX, SIZE_PX, 3), np.uint8)
        labels = np.empty((BATCH_SIZE, SIZE_PX, SIZE_PX), np.uint16)
        for n, index in enumerate(mine):
            slot, size = n % BATCH_SIZE, (SIZE_PX, SIZE_PX)
            cv2.resize(store.image(index), size, dst=images[slot], interpolation=cv2.INTER_LINEAR)
            cv2.resize(store.labels(index), size, dst=labels[slot], interpolation=cv2.INTER_NEAREST)

    def consume() -> int:
        threads = [threading.Thread(target=work, args=(indices[first::2],)) for first in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(indices)

    return lambda: timed(consume)


# ---- the run ----


def draw_folder(folder: Path) -> None:
    """Write 85 drawn images of the size of most GlaS images, in the release's layout."""
    rng = np.random.default_rng(0)
    for number in range(1, 86):
        image, labels = draw_tissue(522, 775, draw_patient(rng, malignant=number % 2 == 1), rng)
        Image.fromarray(image).save(folder / f"train_{number}.bmp")
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"train_{number}_anno.bmp")


def measure(contestants: dict[str, Contestant], repetitions: int) -> dict[str, float]:
    """Return the median images per second of each; they take turns, so that a busy machine is busy for all."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for repetition in range(repetitions + 1):
        for name, contestant in contestants.items():
            rate = contestant()
            if repetition > 0:  # the first round warms up
                seen[name].append(rate)
    return {name: statistics.median(rates) for name, rates in seen.items()}


def print_table(rates: dict[str, float]) -> None:
    ours_rate = rates["ours (2 threads)"]
    print("| pipeline | images/s | ours is | target |\n|---|---|---|---|")
    targets = {"plain": ">= 5 x", "MONAI": ">= 8 x", "ceiling": ">= 35 %"}
    monai_best = max(rate for name, rate in rates.items() if name.startswith("MONAI"))
    for name, rate in rates.items():
        kind = next((k for k in targets if name.startswith(k)), "")
        target = "" if kind == "MONAI" and rate < monai_best else targets.get(kind, "")
        ratio = f"{ours_rate / rate:.0%}" if kind == "ceiling" else f"{ours_rate / rate:.1f} x"
        print(f"| {name} | {rate:,.0f} | {'' if rate == ours_rate else ratio} | {target} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="GlaS release folder; drawn images of the same size without it"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data
        if folder is None:
            folder = Path(scratch) / "drawn"
            folder.mkdir()
            draw_folder(folder)
        store = prepare_store(open_dataset(folder), Path(scratch) / "cache")
        indices = store.indices("train")
        names = [store.samples[i].id for i in indices]
        images = [next(folder.glob(f"{name}.*")) for name in names]
        annotations = [next(folder.glob(f"{name}_anno.*")) for name in names]
        # Those that fork workers come first, before this process has threads of its own.
        contestants = {
            "plain Dataset, skimage, albumentations, DataLoader(num_workers=2)": plain(images, annotations),
            "MONAI CacheDataset, DataLoader(num_workers=2)": monai_pipeline(images, annotations, 2),
            "MONAI CacheDataset, DataLoader(num_workers=0)": monai_pipeline(images, annotations, 0),
        }
        for contestant in contestants.values():
            contestant()
        contestants |= {
            "ours (2 threads)": ours(store, indices, "poster"),
            "ours, `standard` preset (2 threads)": ours(store, indices, "standard"),
            "ours, `strong` preset (2 threads)": ours(store, indices, "strong"),
            "ceiling: cv2.resize from the map, 2 threads": ceiling(store, indices),
        }
        print(
            f"{len(indices)} training images, {os.cpu_count()} cores, {arguments.repetitions} repetitions\n"
        )
        print_table(measure(contestants, arguments.repetitions))


if __name__ == "__main__":
    main()
