"""What scale, head, loss, encoder, augmentation, test-time augmentation and tuned post-processing bring on GlaS.

    python tests/benchmarks/ablation.py --data GLAS --seeds 3 --steps 200 --json ablation.json

Every variant is the first trial of `studies/unet-instances.toml` with one thing changed, trained once per seed; a seed
decides the split by patient, the weights and the crops, so variants are compared pair by pair. All figures are of the
validation images, the official metrics pooled over them. The last two rows change nothing in training: they look at the
first variant's networks again. Post-processing is tuned on one half of the validation patients and measured on the
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

import torch

from data_pipeline.datasets import open_dataset
from data_pipeline.splits import split_by_group
from data_pipeline.store import Store, prepare_store
from searcher.evaluation.metrics import ImageComparison, pooled
from searcher.inference.measuring import measure, see_all
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import tune_postprocess
from searcher.study.catalog import load_study
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.reporter import NullReporter
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer

FIRST = "as shipped: half scale, contour head, ce+dice, resnet18, strong"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    FIRST: {},
    "native scale, crops of 192 px (as many pixels for the network)": {
        "model.input_scale": 1.0,
        "augment.crop_px": 192,
    },
    "binary head": {"model.head": "binary"},
    "distance head": {"model.head": "distance"},
    "loss ce": {"model.loss": "ce"},
    "plain encoder": {"model.encoder": "plain"},
    "augmentation: flips and turns only": {"augment.preset": "standard", "augment.strength": 0.0},
}
STEPS_PER_EPOCH = 50
METRICS = ("f1", "object_dice", "object_hausdorff")


def config_of(changes: Mapping[str, Any], *, seed: int, num_steps: int) -> TrialConfig:
    """Return the configuration of a variant: one cosine over all steps, validated at the end of each epoch."""
    spec = load_study(
        "unet-instances",
        {
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
    return spec.trial_config(spec.enqueue[0])


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
    return trained_model(checkpoint, device=torch.device("cpu")), list(split.val)


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
    predictor = Predictor([model], device=torch.device("cpu"), tta=tta)
    start = predictor.postprocess
    seen = [see_all(predictor, store, part) for part in halves(store, indices)]
    compared: list[ImageComparison] = []
    for here, there in ((0, 1), (1, 0)):
        predictor.postprocess = start
        tune_postprocess(predictor, seen[here], Objective("object_dice"))
        compared += measure(predictor, seen[there])
    predictor.postprocess = start
    return pooled(compared)


def figures_of(model: Any, store: Store, indices: Sequence[int], *, tta: bool = False) -> dict[str, float]:
    """Return the metrics as trained."""
    predictor = Predictor([model], device=torch.device("cpu"), tta=tta)
    return pooled(measure(predictor, see_all(predictor, store, indices)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gland-searcher-stores")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    store = prepare_store(open_dataset(args.data), args.cache)
    results: dict[str, list[dict[str, float]]] = {}

    def add(name: str, figures: Mapping[str, float]) -> None:
        results.setdefault(name, []).append({key: figures[key] for key in METRICS})
        if args.json is not None:
            args.json.write_text(json.dumps({"steps": args.steps, "results": results}, indent=2) + "\n")

    for seed in range(args.seeds):
        for name, changes in VARIANTS.items():
            started = time.monotonic()
            model, val = train(config_of(changes, seed=seed, num_steps=args.steps), store)
            add(name, figures_of(model, store, val))
            if name == FIRST:
                add("with the mean of 8 views", figures_of(model, store, val, tta=True))
                add("with tuned post-processing", tuned_elsewhere(model, store, val, tta=False))
                add("with both", tuned_elsewhere(model, store, val, tta=True))
            print(f"seed {seed}, {name}: {results[name][-1]}, {time.monotonic() - started:.0f} s", flush=True)
    print_table(results)


def print_table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Print a row for each variant: means over seeds, mean difference to the first and its standard error."""
    print(
        "\n| variant | F1 | object Dice | object Hausdorff | object Dice against the first |\n|---|---:|---:|---:|---:|"
    )
    for name, runs in results.items():
        means = [fmean(run[key] for run in runs) for key in METRICS]
        gains = [
            run["object_dice"] - first["object_dice"]
            for run, first in zip(runs, results[FIRST], strict=False)
        ]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        gain = "" if name == FIRST else f"{fmean(gains):+.3f} ± {error:.3f}"
        print(f"| {name} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.1f} | {gain} |")


if __name__ == "__main__":
    main()
