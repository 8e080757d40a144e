"""What scale, head, loss, encoder, augmentation, test-time augmentation and tuned post-processing bring on GlaS.

    python tests/benchmarks/ablation.py --data GLAS --seeds 0 1 2 3 --steps 200 --json ablation.json

A run takes some four minutes of one core, the last variant three times that. It goes on from the file where it was
stopped. Several processes with a seed and a file each are put together by `--merge FILE...`.

Every variant is a small network as `studies/unet-instances.toml` trains it with one thing changed, once a seed, which
decides the split by patient, the weights and the crops, so variants are compared pair by pair. All figures are of the
validation images, the official metrics pooled over them. Three rows change nothing in training: they look at the first
variant's networks again. Post-processing is tuned on one half of the validation patients and measured on the
other, in turn, so that it is not measured where it was tuned.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from searcher.data_pipeline.datasets import open_dataset
from searcher.data_pipeline.splits import split_by_group
from searcher.data_pipeline.store import Store, prepare_store
from searcher.evaluation.official_metrics import ImageComparison, pooled
from searcher.inference.measuring import compare_instances, see_all
from searcher.inference.precision import default_device
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import tune_postprocess
from searcher.study.catalog import load_study
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.reporter import NullReporter
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer

FIRST = "half scale, contour head, ce+dice, EfficientNet-Lite0 from ImageNet's weights, strong"
BASE: Mapping[str, Any] = {
    "model.input_scale": 0.5,
    "model.head": "contour",
    "model.contour_width_px": 8,
    "model.loss": "ce+dice",
    "model.border_weight": 0.0,
    "model.encoder": "efficientnet_lite0",
    "model.weights": "imagenet",
    "model.base_channels": 8,
    "augment.preset": "strong",
    "augment.strength": 1.0,
    "augment.crop_px": 384,
    "optimizer.lr": 1e-3,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    FIRST: {},
    "binary head": {"model.head": "binary"},
    "distance head": {"model.head": "distance", "model.distance_cap_px": 16},
    "native scale, crops of 192 px (as many pixels for the network)": {
        "model.input_scale": 1.0,
        "augment.crop_px": 192,
    },
    "loss ce": {"model.loss": "ce"},
    "loss focal+dice": {"model.loss": "focal+dice"},
    "augmentation: flips and turns only": {"augment.preset": "standard", "augment.strength": 0.0},
    "border weights of 5": {"model.border_weight": 5.0},
    "EfficientNet-Lite0 from random weights": {"model.weights": "none"},
    "plain encoder of 16 channels, random weights, twice the rate": {
        "model.encoder": "plain",
        "model.weights": "none",
        "model.base_channels": 16,
        "optimizer.lr": 2e-3,
    },
    "three quarters of the scale, crops of 448 px (three times the pixels)": {
        "model.input_scale": 0.75,
        "augment.crop_px": 448,
    },
}
VIEWS, TUNED, BOTH = AFTERWARDS = (
    "with the mean of 8 views",
    "with tuned post-processing",
    "with both",
)
STEPS_PER_EPOCH = 50
METRICS = ("f1", "object_dice", "object_hausdorff")


def config_of(changes: Mapping[str, Any], *, seed: int, num_steps: int) -> TrialConfig:
    """Return the configuration of a variant: one cosine over all steps, validated at the end of each epoch."""
    spec = load_study(
        "unet-instances",
        {
            **BASE,
            **changes,
            "train.epochs": max(1, num_steps // STEPS_PER_EPOCH),
            "data.samples_per_epoch": 8 * STEPS_PER_EPOCH,
            "data.val_fraction": 0.2,
            "data.split_seed": seed,
            "train.seed": seed,
            "train.ema_decay": 0.98,  # what 0.995 is for an hour's steps
            "schedule.warmup_epochs": 0.5,
            "tuning.postprocess": False,
            "tuning.tta": False,
        },
    )
    return spec.trial_config({})


def train(config: TrialConfig, store: Store) -> tuple[Any, list[int]]:
    """Return the network after the last epoch, and the indices of its validation images."""
    data = config.data
    split = split_by_group(
        store.samples,
        store.indices("train"),
        fraction=data.val_fraction,
        folds=0,
        fold=0,
        seed=data.split_seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        with Trainer(config, Objective("object_dice"), store=store, run_dir=Path(folder)) as trainer:
            trainer.fit(NullReporter())
        checkpoint, _ = load_checkpoint(Path(folder) / "last.pt")
    return trained_model(checkpoint, device=default_device()), list(split.val)


def halves(store: Store, indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the images in two parts of nearly equal size that share no patient."""
    parts: tuple[list[int], list[int]] = ([], [])
    by_patient: dict[str, list[int]] = {}
    for index in indices:
        by_patient.setdefault(store.samples[index].group, []).append(index)
    for of_patient in sorted(by_patient.values(), key=len, reverse=True):
        min(parts, key=len).extend(of_patient)
    return parts


def tuned_elsewhere(model: Any, store: Store, indices: Sequence[int], *, tta: bool) -> dict[str, float]:
    """Return the metrics with post-processing tuned on the other half of the patients."""
    predictor = Predictor([model], device=default_device(), tta=tta)
    start = predictor.postprocess
    seen = [see_all(predictor, store, part) for part in halves(store, indices)]
    compared: list[ImageComparison] = []
    for here, there in ((0, 1), (1, 0)):
        predictor.postprocess = start
        tune_postprocess(predictor, seen[here], "object_f1+object_dice")
        compared += compare_instances(predictor, seen[there])
    predictor.postprocess = start
    return pooled(compared)


def figures_of(model: Any, store: Store, indices: Sequence[int], *, tta: bool = False) -> dict[str, float]:
    """Return the metrics as trained."""
    predictor = Predictor([model], device=default_device(), tta=tta)
    return pooled(compare_instances(predictor, see_all(predictor, store, indices)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gland-searcher-stores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], help="take over the runs in these files first"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--json", type=Path, required=True, help="results, written after each run; goes on from there"
    )
    args = parser.parse_args()
    store = prepare_store(open_dataset(args.data), args.cache)
    results = Results(args.json, num_steps=args.steps, fingerprint=store.fingerprint)
    for path in args.merge:
        results.take_over(path)
    for seed in args.seeds:
        for name, changes in VARIANTS.items():
            if results.has(name, seed):
                continue
            started = time.monotonic()
            model, val = train(config_of(changes, seed=seed, num_steps=args.steps), store)
            if name == FIRST:
                results.add(VIEWS, seed, figures_of(model, store, val, tta=True))
                results.add(TUNED, seed, tuned_elsewhere(model, store, val, tta=False))
                results.add(BOTH, seed, tuned_elsewhere(model, store, val, tta=True))
            figures = figures_of(model, store, val)
            results.add(name, seed, figures)
            print(f"seed {seed}, {name}: {figures}, {time.monotonic() - started:.0f} s", flush=True)
    results.print_table()


class Results:
    """Figures by variant and seed, kept in a file."""

    def __init__(self, path: Path, *, num_steps: int, fingerprint: str) -> None:
        self._path = path
        # What is compared must be of the same making; of a changed study or other data, begin another file.
        made_of = {
            "steps": num_steps,
            "first": config_of({}, seed=0, num_steps=num_steps).digest(),
            "data": fingerprint,
        }
        self._content: dict[str, Any] = {**made_of, "by_variant": {}}
        self._by_variant: dict[str, dict[str, dict[str, float]]] = self._content["by_variant"]
        self._made_of = made_of
        if path.exists():
            self.take_over(path)

    def take_over(self, path: Path) -> None:
        """Add the runs that another file holds, of the same making."""
        content = json.loads(path.read_text())
        there = {key: content.get(key) for key in self._made_of}
        assert there == self._made_of, f"{path}: must hold runs of {self._made_of}, got {there}"
        for name, runs in content["by_variant"].items():
            self._by_variant.setdefault(name, {}).update(runs)

    def has(self, name: str, seed: int) -> bool:
        """Return whether that run is there."""
        return str(seed) in self._by_variant.get(name, {})

    def add(self, name: str, seed: int, figures: Mapping[str, float]) -> None:
        """Keep a run's figures."""
        self._by_variant.setdefault(name, {})[str(seed)] = {key: figures[key] for key in METRICS}
        self._path.write_text(json.dumps(self._content, indent=2) + "\n")

    def _gain(self, runs: Mapping[str, Mapping[str, float]], metric: str) -> str:
        """Return the mean difference to the first variant, seed by seed, and its standard error."""
        first = self._by_variant[FIRST]
        gains = [run[metric] - first[seed][metric] for seed, run in runs.items() if seed in first]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        return f"{fmean(gains):+.3f} ± {error:.3f}"

    def print_table(self) -> None:
        """Print a row for each variant: means over seeds, mean differences to the first and their standard errors."""
        print(
            "\n| variant | seeds | F1 | object Dice | object Hausdorff | F1, difference | object Dice, difference |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|")
        order = [FIRST, *AFTERWARDS, *(name for name in VARIANTS if name != FIRST)]
        for name, runs in ((name, self._by_variant[name]) for name in order if name in self._by_variant):
            f1, dice, hausdorff = (fmean(run[key] for run in runs.values()) for key in METRICS)
            gains = "|" if name == FIRST else f"{self._gain(runs, 'f1')} | {self._gain(runs, 'object_dice')}"
            print(f"| {name} | {len(runs)} | {f1:.3f} | {dice:.3f} | {hausdorff:.1f} | {gains} |")
        print(
            "\n±: standard error of the paired differences over the seeds. Their splits share patients, so it is"
        )
        print("rather too small; with 4 seeds a difference says something from 3.2 of them on.")


if __name__ == "__main__":
    main()
