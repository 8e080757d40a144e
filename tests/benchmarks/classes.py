"""How often the class of a nucleus is right: a U-Net against classifiers that see one stain and size per object.

    pip install scikit-learn
    python tests/benchmarks/classes.py [--model unet] [--epochs 12] [--seeds 0 1]

The network is the first point of `studies/nuclei-classes.toml` (or a small Mask R-CNN), trained on 30 of its 40 drawn
images without a search; patients do not mix. It is measured on 12 further images of other patients: an object counts
where a predicted one has an IoU above 0.5 with it. The classifiers learn from the true objects of the same training
images: mean and spread of red, green and blue, area, and elongation. They are given the true objects of the test
images, which a network has to find first; and the objects that the network has found.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]
from sklearn.pipeline import make_pipeline  # type: ignore[import-not-found]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-not-found]

from searcher.data_pipeline import prepare_store
from searcher.data_pipeline.datasets.nuclei import NUCLEI
from searcher.data_pipeline.datasets.synthetic import SyntheticNuclei
from searcher.data_pipeline.store import Store
from searcher.study.catalog import load_study
from searcher.study.config import TrialConfig
from searcher.training.dataset import split_store
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer

SMALL_DETECTOR = {
    "name": "mask_rcnn",
    "backbone": "efficientnet_lite0",
    "fpn_channels": 32,
    "box_layer": 64,
    "mask_layer": 32,
    "input_scale": 2.0,
}
LEAST_IOU = 0.5

Objects = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Features float64[n, 8] and classes int64[n] of n objects."""


def config_of(model: str, epochs: int, seed: int) -> TrialConfig:
    """Return what is trained."""
    spec = load_study("nuclei-classes")
    values = spec.trial_config(spec.enqueue[0]).to_dict()
    values["train"] |= {"epochs": epochs, "seed": seed}
    values["data"]["samples_per_epoch"] = 120
    if model == "mask_rcnn":
        values["model"] = SMALL_DETECTOR
        values["train"]["batch_size"] = 4
    return TrialConfig.model_validate(values)


def features(image: NDArray[Any], labels: NDArray[np.int32], numbers: Iterable[int]) -> NDArray[np.float64]:
    """Return mean and spread of the colours, area and elongation of objects: float64[n, 8]."""
    boxes = ndimage.find_objects(labels)
    rows = []
    for number in numbers:
        box = boxes[number - 1]
        mask = labels[box] == number
        colours = image[box][mask].astype(np.float64)
        spread = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T)) if mask.sum() > 2 else np.ones(2)
        elongation = float(np.sqrt(max(spread[1], 1e-6) / max(spread[0], 1e-6)))
        rows.append([*colours.mean(axis=0), *colours.std(axis=0), mask.sum(), min(elongation, 10.0)])
    return np.array(rows).reshape(-1, 8)


def true_objects(store: Store, indices: Sequence[int]) -> Objects:
    """Return all objects of some images."""
    found = []
    for index in indices:
        numbers = sorted(store.class_table.of_images[index])
        labels = np.asarray(store.labels(index), np.int32)
        found.append((features(store.image(index), labels, numbers), store.classes(index)[numbers]))
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def matched(truth: NDArray[np.int32], labels: NDArray[np.int32], num_predicted: int) -> list[tuple[int, int]]:
    """Return true and predicted objects with an IoU above 0.5; each has one at most."""
    pairs = []
    sizes = np.bincount(truth.ravel()), np.bincount(labels.ravel(), minlength=num_predicted + 1)
    for number in range(1, num_predicted + 1):
        on, counts = np.unique(truth[labels == number], return_counts=True)
        for other, shared in zip(on.tolist(), counts.tolist(), strict=True):
            if other > 0 and shared > LEAST_IOU * (sizes[0][other] + sizes[1][number] - shared):
                pairs.append((other, number))
    return pairs


def by_class(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> str:
    """Return how often the class is right, over all objects and by class."""
    parts = [
        f"{name} {np.mean(predicted[truth == number] == number):.3f}"
        for number, name in enumerate(NUCLEI, start=1)
    ]
    return f"{np.mean(predicted == truth):.3f} ({', '.join(parts)}), n = {len(truth)}"


def measure(model: str, epochs: int, seed: int, folder: Path) -> None:
    """Train and print the figures of one seed."""
    config = config_of(model, epochs, seed)
    data = config.data
    source = SyntheticNuclei(
        num_images=data.synthetic_images, size_px=data.synthetic_size_px, seed=seed, num_test_images=12
    )
    store = prepare_store(source, folder / "cache", with_classes=True)
    train = split_store(store, data).train
    with Trainer(
        config, load_study("nuclei-classes").objective, store=store, run_dir=folder / "run"
    ) as trainer:
        trainer.fit(NullReporter())
        network = trainer.learner.evaluated.eval()
        tests = store.indices("testA")
        num_true, num_found = 0, 0
        seen: list[Objects] = []
        of_network = []
        for index in tests:
            image, truth = store.image(index), np.asarray(store.labels(index), np.int32)
            [prediction] = network.predict(torch.from_numpy(np.array(image))[None])
            assert prediction.classes is not None
            pairs = matched(truth, prediction.labels, len(prediction.classes))
            classes = store.classes(index)
            num_true += int((classes > 0).sum())
            num_found += len(pairs)
            seen.append(
                (
                    features(image, prediction.labels, [number for _, number in pairs]),
                    classes[[other for other, _ in pairs]].astype(np.int64),
                )
            )
            of_network += [int(prediction.classes[number - 1]) for _, number in pairs]
    found = np.concatenate([each for each, _ in seen]), np.concatenate([each for _, each in seen])
    print(f"{model}, {epochs} epochs, seed {seed}: {num_found} of {num_true} test nuclei found")
    print(f"  network, on what it found:          {by_class(found[1], np.array(of_network))}")
    learned, whole = true_objects(store, train), true_objects(store, tests)
    for name, classifier in (
        ("logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ("random forest", RandomForestClassifier(300, random_state=0)),
    ):
        classifier.fit(*learned)
        print(f"  {name + ', on the same objects:':35} {by_class(found[1], classifier.predict(found[0]))}")
        print(f"  {name + ', on the true objects:':35} {by_class(whole[1], classifier.predict(whole[0]))}")


def main() -> None:
    """Print the figures of each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("unet", "mask_rcnn"), default="unet")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure(args.model, args.epochs, seed, Path(folder))


if __name__ == "__main__":
    main()
