"""Speed of the Hausdorff distance against the public ways, and of whole images.

    python tests/benchmarks/metrics_speed.py [--data GLAS] [--repeats 7]

Prints two Markdown tables. The first measures single pairs of objects, all ways in turn so that a busy machine slows
all alike, medians of the repeats, and checks that all agree; `searcher` has its objects read before, as for every
pair of an image but the first. The second compares whole images: with `--data`, a
GlaS release folder, the test A annotations against altered copies of themselves; without it, drawn glands.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from skimage.metrics import hausdorff_distance

from searcher.evaluation.hausdorff import pair_hausdorff
from searcher.evaluation.metrics import compare
from searcher.evaluation.objects import LabelledObjects

Maps = np.ndarray


def measured(x: LabelledObjects, y: LabelledObjects) -> float:
    return float(pair_hausdorff(x, y, np.zeros((1, 2), np.int64))[0])


def from_maps(x: Maps, y: Maps) -> float:
    return measured(LabelledObjects(x), LabelledObjects(y))


def scipy_transform(x: Maps, y: Maps) -> float:
    return float(
        max(distance_transform_edt(y == 0)[x > 0].max(), distance_transform_edt(x == 0)[y > 0].max())
    )


def scipy_tree(x: Maps, y: Maps) -> float:
    a, b = np.argwhere(x), np.argwhere(y)
    return float(max(cKDTree(b).query(a)[0].max(), cKDTree(a).query(b)[0].max()))


def scikit_image(x: Maps, y: Maps) -> float:
    return float(hausdorff_distance(x > 0, y > 0))


WAYS: dict[str, Callable[[Maps, Maps], float]] = {
    "searcher, from maps": from_maps,
    "SciPy EDT": scipy_transform,
    "SciPy k-d tree": scipy_tree,
    "scikit-image": scikit_image,
}


def wobbly(shape: tuple[int, int], centre: tuple[int, int], radius: float, seed: int) -> Maps:
    """One filled gland-like outline, label 1."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    reach = np.full(200, float(radius))
    for wave in range(2, 7):
        reach += radius * rng.normal(0, 0.06) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    points = np.column_stack([centre[1] + reach * np.cos(angle), centre[0] + reach * np.sin(angle)])
    labels = np.zeros(shape, np.int32)
    cv2.fillPoly(labels, [points.round().astype(np.int32)], 1)
    return labels


def pairs() -> dict[str, tuple[Maps, Maps]]:
    """Pairs of objects by a name that gives their sizes."""
    shape = (522, 775)
    made = {
        "large": (wobbly(shape, (261, 380), 250, 0), wobbly(shape, (265, 390), 245, 1)),
        "median gland": (wobbly(shape, (200, 300), 62, 2), wobbly(shape, (204, 306), 60, 3)),
        "small": (wobbly(shape, (100, 100), 14, 4), wobbly(shape, (102, 101), 13, 5)),
        "speck against large": (wobbly(shape, (30, 40), 3, 6), wobbly(shape, (261, 380), 250, 0)),
    }
    return {f"{name} ({(x > 0).sum():,} / {(y > 0).sum():,} px)": (x, y) for name, (x, y) in made.items()}


def medians_ms(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each way, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, call in ways.items():
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def glas_annotations(folder: Path) -> list[Maps]:
    """Label maps of test A."""
    files = sorted(folder.glob("testA_*_anno.*"))
    if not files:
        raise SystemExit(
            f"{folder}: must hold testA_1_anno.bmp and so on, none found; give a GlaS release folder"
        )
    maps = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    return [(m if m.ndim == 2 else m[..., 0]).astype(np.int32) for m in maps]


def drawn_annotations(count: int = 20) -> list[Maps]:
    """Label maps with about a dozen glands each."""
    rng = np.random.default_rng(0)
    maps = []
    for image in range(count):
        labels = np.zeros((522, 775), np.int32)
        for label in range(1, 13):
            centre = (int(rng.integers(522)), int(rng.integers(775)))
            gland = wobbly(labels.shape, centre, float(rng.uniform(20, 90)), 100 * image + label)
            labels[(gland > 0) & (labels == 0)] = label
        maps.append(labels)
    return maps


def components(mask: Maps) -> Maps:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]


def altered(truth: Maps) -> dict[str, Maps]:
    """What networks predict, from good to hopeless."""
    rng, mask = np.random.default_rng(0), (truth > 0).astype(np.uint8)
    smooth = cv2.GaussianBlur(rng.random(truth.shape).astype(np.float32), (0, 0), 2)
    return {
        "eroded by 4 px": np.where(cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0, truth, 0),
        "shifted by (7, -11)": np.roll(truth, (7, -11), (0, 1)),
        "merged by dilation": components(cv2.dilate(mask, np.ones((15, 15), np.uint8))),
        "one object everywhere": np.ones_like(truth),
        "thousands of specks": components(rng.random(truth.shape) < 0.0125),
        "a thousand blobs": components(smooth > 0.515),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the metrics, as Markdown tables.")
    parser.add_argument("--data", type=Path, help="GlaS release folder; without it glands are drawn")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    print(f"{os.cpu_count()} CPUs, OpenCV {cv2.__version__} with {cv2.getNumThreads()} threads\n")
    print("| pair, ms | searcher | " + " | ".join(WAYS) + " |\n|---|---:|" + "---:|" * len(WAYS))
    for name, (x, y) in pairs().items():
        values = [way(x, y) for way in WAYS.values()]
        assert np.allclose(values, values[0], rtol=1e-9), values
        calls = {way: functools.partial(f, x, y) for way, f in WAYS.items()}
        calls = {"searcher": functools.partial(measured, LabelledObjects(x), LabelledObjects(y)), **calls}
        taken = medians_ms(calls, arguments.repeats)
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in taken.values()) + " |")

    truths = glas_annotations(arguments.data) if arguments.data else drawn_annotations()
    predictions = [altered(truth) for truth in truths]
    print(
        f"\n| {len(truths)} images compared | objects per prediction | ms per image | all, s |\n|---|---:|---:|---:|"
    )
    for name in predictions[0]:
        started = time.perf_counter()
        compared = [compare(truth, each[name]) for truth, each in zip(truths, predictions, strict=True)]
        taken_s = time.perf_counter() - started
        objects = statistics.mean(len(c.prediction_areas) for c in compared)
        print(f"| {name} | {objects:.0f} | {1e3 * taken_s / len(truths):.1f} | {taken_s:.2f} |")


if __name__ == "__main__":
    main()
