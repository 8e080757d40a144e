"""Speed of the metrics against the public ways: single pairs of objects, and the whole evaluation of test A.

    python tests/benchmarks/metrics_speed.py [--data GLAS [--predictions DIR]] [--repeats 3]

Prints three Markdown tables. In each, all ways take turns in one run, so that a busy machine slows all alike; times are
medians of the repeats, and all ways must agree.

1. Single pairs of objects; `searcher` has its objects read before, as for every pair of an image but the first.
2. All images of a set from label maps to F1, object Dice and object Hausdorff. Every way has searcher's partners and
   measures each pair once; they differ in how they measure a pair, and an object without partner against all others.
3. searcher alone, against predictions from good to hopeless.

With `--data`, a GlaS release folder, the truths are the annotations of test A, otherwise drawn glands. Predictions are
the label maps of `--predictions`, otherwise the truths altered in ways that repeat: eroded, shifted, merged.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial import cKDTree
from skimage.metrics import hausdorff_distance

from searcher.evaluation.hausdorff import pair_hausdorff
from searcher.evaluation.label_maps import read_label_map
from searcher.evaluation.labelled_objects import LabelledObjects, overlaps
from searcher.evaluation.official_metrics import compare, pooled

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


def scipy_tree_of_borders(x: Maps, y: Maps) -> float:
    """The tree used well: in the box of both, only pixels outside the other object, against its border."""
    rows, columns = (np.flatnonzero(np.logical_or(x.any(axis), y.any(axis))) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return max(_directed(x[box] > 0, y[box] > 0), _directed(y[box] > 0, x[box] > 0))


def _directed(x: Maps, y: Maps) -> float:
    outside = np.argwhere(x & ~y)
    border = np.argwhere(y & ~binary_erosion(y))
    return float(cKDTree(border).query(outside)[0].max()) if len(outside) else 0.0


def scikit_image(x: Maps, y: Maps) -> float:
    return float(hausdorff_distance(x > 0, y > 0))


WAYS: dict[str, Callable[[Maps, Maps], float]] = {
    "searcher, from maps": from_maps,
    "SciPy EDT": scipy_transform,
    "SciPy k-d tree": scipy_tree,
    "SciPy k-d tree, borders": scipy_tree_of_borders,
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


def medians_ms(
    ways: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """What each way returns and its median time, the ways taking turns."""
    found: dict[str, Any] = {}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, call in ways.items():
            started = time.perf_counter()
            found[name] = call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return found, {name: statistics.median(values) for name, values in times.items()}


def searcher_evaluation(truths: list[Maps], predictions: list[Maps]) -> dict[str, float]:
    """The official metrics of a set of images."""
    return pooled([compare(*pair) for pair in zip(truths, predictions, strict=True)])


def public_evaluation(
    way: Callable[[Maps, Maps], float], truths: list[Maps], predictions: list[Maps]
) -> dict[str, float]:
    """The same with each pair's distance measured in a public way on the objects' masks."""
    metrics = pooled([compare(*pair, hausdorff=False) for pair in zip(truths, predictions, strict=True)])
    weighted, areas = np.zeros(2), np.zeros(2)
    for truth, prediction in zip(truths, predictions, strict=True):
        sides = LabelledObjects(truth), LabelledObjects(prediction)
        masks = [[objects.index_map == 1 + i for i in range(len(objects))] for objects in sides]
        distance = functools.cache(lambda i, j, masks=masks: way(masks[0][i], masks[1][j]))
        for side, (objects, found) in enumerate(zip(sides, overlaps(*sides), strict=True)):
            for number, partner in enumerate(found.partners.tolist()):
                others = [partner] if partner >= 0 else range(len(sides[1 - side]))
                nearest = min(distance(number, o) if side == 0 else distance(o, number) for o in others)
                weighted[side] += objects.areas[number] * nearest
            areas[side] += objects.areas.sum()
    return metrics | {"object_hausdorff": float((weighted / areas).mean())}


def print_whole_evaluation(truths: list[Maps], predictions: list[Maps], repeats: int) -> None:
    """The second table."""
    calls: dict[str, Callable[[], dict[str, float]]] = {
        "searcher": functools.partial(searcher_evaluation, truths, predictions)
    }
    for name in ("SciPy k-d tree, borders", "SciPy k-d tree", "scikit-image"):
        calls[name] = functools.partial(public_evaluation, WAYS[name], truths, predictions)
    expected = searcher_evaluation(truths, predictions)
    print(f"\n| evaluation of {len(truths)} images | s | ms per image | searcher is |\n|---|---:|---:|---:|")
    found, taken = medians_ms(calls, repeats)
    for name, metrics in found.items():
        assert all(abs(metrics[key] - expected[key]) < 1e-9 for key in expected), (name, metrics, expected)
    for name, ms in taken.items():
        ratio = "" if name == "searcher" else f"{ms / taken['searcher']:.1f} x"
        print(f"| {name} | {ms / 1e3:.2f} | {ms / len(truths):.1f} | {ratio} |")


def label_maps_of(truths: dict[str, Maps], folder: Path) -> list[Maps]:
    """Label maps of a method for the same images, named as the images or annotations."""
    files = {file.stem.removesuffix("_anno"): file for file in folder.iterdir()}
    if missing := truths.keys() - files.keys():
        raise SystemExit(
            f"{folder}: must hold a label map of every image, none of {', '.join(sorted(missing))}"
        )
    return [read_label_map(files[name]) for name in truths]


def glas_annotations(folder: Path) -> dict[str, Maps]:
    """Label maps of test A by the image's name."""
    files = sorted(folder.glob("testA_*_anno.*"))
    if not files:
        raise SystemExit(
            f"{folder}: must hold testA_1_anno.bmp and so on, none found; give a GlaS release folder"
        )
    return {file.stem.removesuffix("_anno"): read_label_map(file) for file in files}


def drawn_annotations(count: int = 20) -> dict[str, Maps]:
    """Label maps with about a dozen glands each."""
    rng = np.random.default_rng(0)
    maps = {}
    for image in range(count):
        labels = np.zeros((522, 775), np.int32)
        for label in range(1, 13):
            centre = (int(rng.integers(522)), int(rng.integers(775)))
            gland = wobbly(labels.shape, centre, float(rng.uniform(20, 90)), 100 * image + label)
            labels[(gland > 0) & (labels == 0)] = label
        maps[str(image)] = labels
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
    parser.add_argument("--predictions", type=Path, help="label maps of a method for test A, with --data")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    print(f"{os.cpu_count()} CPUs, OpenCV {cv2.__version__} with {cv2.getNumThreads()} threads\n")
    print("| pair, ms | searcher | " + " | ".join(WAYS) + " |\n|---|---:|" + "---:|" * len(WAYS))
    for name, (x, y) in pairs().items():
        values = [way(x, y) for way in WAYS.values()]
        assert np.allclose(values, values[0], rtol=1e-9), values
        calls = {way: functools.partial(f, x, y) for way, f in WAYS.items()}
        calls = {"searcher": functools.partial(measured, LabelledObjects(x), LabelledObjects(y)), **calls}
        _, taken = medians_ms(calls, arguments.repeats)
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in taken.values()) + " |")

    named = glas_annotations(arguments.data) if arguments.data else drawn_annotations()
    truths = list(named.values())
    predictions = [altered(truth) for truth in truths]
    kinds = list(predictions[0])[:3]
    plausible = (
        label_maps_of(named, arguments.predictions)
        if arguments.predictions
        else [each[kinds[number % 3]] for number, each in enumerate(predictions)]
    )
    print_whole_evaluation(truths, plausible, arguments.repeats)
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
