"""The search on public learning curves: the LCBench surrogate of YAHPO Gym, 7 parameters, 52 epochs, 34 data sets.

    python tests/benchmarks/lcbench_search.py --data YAHPO_DATA/lcbench --sampler fast-gp --json runs.json
    python tests/benchmarks/lcbench_search.py --data YAHPO_DATA/lcbench --sampler tpe --startup 15 --json runs.json
    python tests/benchmarks/lcbench_search.py --json runs.json

The data is YAHPO Gym's (Apache-2.0, `yahpo_data` on its pages); it is read by onnxruntime and not part of this
project. What samples and stops is the service's own code, by the `Study` of `search_strategies.py`, four trials at a
time, with the settings of `unet-broad`: grace 5 of 52 epochs, factor 3. Data sets by sorted number: the even ones are
for choosing, the odd ones (`--held`) for looking at a choice once. Every data set and seed begins with points of its
own.

Regret: (best known - found) / (best known - median of random points) x 100 after 520, 1040 and 2600 epochs, which are
10, 20 and 50 trainings. Controls: `folded`, whose best point lies inside the box and not in a corner; `noisy`, in
which a value has the error of 200 validation images, two thirds of its variance the trial's and one third the
epoch's; there the point is chosen by what was measured and scored by what is true. The last command prints the tables
of a file: means, and 95% intervals of the paired difference to `tpe`, data sets drawn anew with their seeds.
"""

import argparse
import hashlib
import json
import math
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import optuna
from search_strategies import Study

from searcher.study.catalog import load_study
from searcher.study.space import FloatRange, IntRange, Parameter, SearchSpace

EPOCHS = 52
BUDGETS = (520, 1040, 2600)
ACCURACY = 1
"""Column of the validation accuracy, 0 .. 100, among the surrogate's outputs."""
IMAGES = 200
SPACE = SearchSpace(
    (
        Parameter("batch_size", IntRange(16, 512, log=True)),
        Parameter("learning_rate", FloatRange(1e-4, 0.1, log=True)),
        Parameter("momentum", FloatRange(0.1, 0.99)),
        Parameter("weight_decay", FloatRange(1e-5, 0.1)),
        Parameter("num_layers", IntRange(1, 5)),
        Parameter("max_units", IntRange(64, 1024, log=True)),
        Parameter("max_dropout", FloatRange(0.0, 1.0)),
    )
)
"""In the order of the surrogate's inputs, after the epoch."""


def places(points: np.ndarray) -> np.ndarray:
    """Return configurations float[N, 7] as places in their ranges, 0 .. 1."""
    return np.stack([_along(num, column, back=False) for num, column in enumerate(points.T)], axis=1)


def points(units: np.ndarray) -> np.ndarray:
    """Return places float[N, 7] as configurations."""
    return np.stack([_along(num, column, back=True) for num, column in enumerate(units.T)], axis=1)


def _along(num: int, column: np.ndarray, *, back: bool) -> np.ndarray:
    domain = SPACE.parameters[num].domain
    low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
    if not back:
        return ((np.log(column) if domain.log else column) - low) / (high - low)
    values = low + np.clip(column, 0, 1) * (high - low)
    values = np.exp(values) if domain.log else values
    return np.clip(np.round(values) if isinstance(domain, IntRange) else values, domain.low, domain.high)


def data_sets(data: Path) -> list[str]:
    """Return the names of the 34 data sets, sorted by number.

    They are those of the space. The surrogate's encoding has a 35th, 167083, which is not part of the benchmark.
    """
    space = json.loads((data / "config_space.json").read_text())
    return sorted(space["hyperparameters"][0]["choices"], key=int)


class Surrogate:
    """Learning curves on one data set."""

    def __init__(self, data: Path, instance: str) -> None:
        self._code = json.loads((data / "encoding.json").read_text())["OpenML_task_id"][instance]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = onnxruntime.InferenceSession(str(data / "model.onnx"), options)

    def curves(self, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return accuracies of configurations float[N, 7] after epochs: float[N, epochs]."""
        inputs = np.empty((len(points), len(epochs), 8), np.float32)
        inputs[:, :, 0] = epochs
        inputs[:, :, 1:] = points[:, None]
        codes = np.full((inputs[:, :, 0].size, 1), self._code, np.int32)
        [values] = self._model.run(["output"], {"x_cat": codes, "x_cont": inputs.reshape(-1, 8)})
        return values[:, ACCURACY].reshape(len(points), len(epochs)).astype(float)

    def best(self, epochs: np.ndarray, num: int) -> tuple[np.ndarray, float, float]:
        """Return the best place, its value, and the median of `num` random points, from which it climbs."""
        rng = np.random.default_rng(1)
        at = rng.random((num, 7))
        values = self.curves(points(at), np.array([EPOCHS]))[:, 0]
        median, order = float(np.median(values)), np.argsort(-values)[:20]
        at, best = at[order], values[order]
        for step in range(150):
            moved = np.clip(
                at + rng.normal(0, 0.2 * 0.975**step, at.shape) * (rng.random(at.shape) < 0.5), 0, 1
            )
            found = self.curves(points(moved), epochs).max(1)
            at[found > best], best = moved[found > best], np.maximum(best, found)
        return at[best.argmax()], float(best.max()), median


class Ground:
    """What a study is trained on: true curves, and how they are measured.

    `run` is what the `Study` of `search_strategies.py` asks of a surface.
    """

    def __init__(self, data: Path, instance: str, control: str) -> None:
        self._surrogate = Surrogate(data, instance)
        self._instance, self._control = instance, control
        place, self.top, self.median = self._surrogate.best(np.array([32, 37, 42, 47, EPOCHS]), 20_000)
        self._is_high = place > 0.5
        self._peak = np.random.default_rng(int(instance)).uniform(0.25, 0.75, 7)
        self.true: dict[tuple[float, ...], np.ndarray] = {}

    def prior(self, kind: str, seed: int) -> dict[str, float]:
        """Return the best, the middle or the worst of 50 random points, by its true value after all epochs."""
        drawn = points(np.random.default_rng(7919 * seed + int(self._instance)).random((50, 7)))
        values = self._surrogate.curves(self._trained(drawn), np.array([EPOCHS]))[:, 0]
        chosen = drawn[np.argsort(values)[{"good": 49, "mediocre": 25, "bad": 0}[kind]]]
        return {
            each.name: int(value) if isinstance(each.domain, IntRange) else float(value)
            for each, value in zip(SPACE.parameters, chosen, strict=True)
        }

    def _trained(self, at: np.ndarray) -> np.ndarray:
        if self._control != "folded":
            return at
        # A tent over each range, around a place that becomes the better side.
        x = 1 - np.abs(places(at) - self._peak) / np.maximum(self._peak, 1 - self._peak)
        return points(np.where(self._is_high, x, 1 - x))

    def run(self, params, num_epochs: int, _rng) -> np.ndarray:
        """Return the values measured after each epoch."""
        key = tuple(float(params[each.name]) for each in SPACE.parameters)
        point = self._trained(np.array([key]))
        self.true[key] = self._surrogate.curves(point, np.arange(1, num_epochs + 1))[0]
        if self._control != "noisy":
            return self.true[key]
        digest = hashlib.sha256(repr((self._instance, key)).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        share = np.clip(self.true[key] / 100, 0, 1)
        errors = math.sqrt(2 / 3) * rng.normal() + math.sqrt(1 / 3) * rng.normal(size=num_epochs)
        return self.true[key] + 100 * np.sqrt(share * (1 - share) / IMAGES) * errors


class Watched(Study):
    """A study that notes the true value of the best measured one after each epoch."""

    history: list[float]
    _best = (-math.inf, -math.inf)

    def _train(self, run, scheduler) -> bool:
        epoch = len(run.intermediate_values)
        key = tuple(float(run.params[each.name]) for each in SPACE.parameters)
        self._best = max(self._best, (float(run.curve[epoch]), float(self._surface.true[key][epoch])))
        self.history.append(self._best[1])
        return super()._train(run, scheduler)


def searched(ground: Ground, seed: int, args: argparse.Namespace) -> list[float | None]:
    """Return the regrets of one search at the budgets."""
    settings = {"train.epochs": EPOCHS, "study.seed": seed, "pruner.grace_epochs": args.grace}
    startup = args.startup if args.startup == "auto" else int(args.startup)
    settings |= {"search.sampler": args.sampler, "search.startup_trials": startup}
    space = SPACE
    if args.prior:
        known = ground.prior(args.prior, seed)
        space = SearchSpace(tuple(replace(each, prior=known[each.name]) for each in SPACE.parameters))
    spec = replace(load_study("unet-broad", settings), space=space, enqueue=())
    study = Watched(spec, ground, np.random.default_rng(0))
    study.history = []
    study.search(args.budget, workers=args.workers)
    found = [study.history[each - 1] if each <= args.budget else None for each in BUDGETS]
    return [
        None if each is None else 100 * max(0.0, ground.top - each) / (ground.top - ground.median)
        for each in found
    ]


def print_tables(runs: dict[str, list[float | None]], base_method: str = "tpe") -> None:
    """Print mean regrets, and paired differences to a method."""
    by_method: dict = defaultdict(dict)
    for key, regrets in runs.items():
        control, method, instance, seed = key.split("/")
        by_method[control, method][instance, seed] = regrets
    print("| control | sampler | runs | 10 | 20 | 50 |\n|---|---|---:|---:|---:|---:|")
    for (control, method), found in sorted(by_method.items()):
        base, cells = by_method.get((control, base_method), {}), []
        for num in range(len(BUDGETS)):
            values = {key: each[num] for key, each in found.items() if each[num] is not None}
            gaps = defaultdict(list)
            for key, value in values.items():
                if key in base and base[key][num] is not None and method != base_method:
                    gaps[key[0]].append(value - base[key][num])
            cell = f"{np.mean([*values.values()]):.1f}" if values else ""
            if gaps:
                means = np.array([np.mean(each) for each in gaps.values()])
                low, high = np.quantile(
                    np.random.default_rng(0).choice(means, (4000, len(means))).mean(1), [0.025, 0.975]
                )
                cell += f" ({means.mean():+.1f}: {low:+.1f} .. {high:+.1f})"
            cells.append(cell)
        print(f"| {control} | {method} | {len(found)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder `lcbench` of yahpo_data; without it tables are printed"
    )
    parser.add_argument("--control", choices=["plain", "folded", "noisy"], default="plain")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--startup", default="auto", help="startup trials, a number or auto")
    parser.add_argument("--prior", choices=["good", "mediocre", "bad"], help="every parameter has a prior")
    parser.add_argument("--base", default="tpe", help="method that the printed differences are to")
    parser.add_argument("--grace", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--budget", type=int, default=1040)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="every n-th data set")
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--json", type=Path, required=True, help="runs; goes on from there")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    runs = json.loads(args.json.read_text()) if args.json.exists() else {}
    if args.data is not None:
        names = data_sets(args.data)
        for instance in names[args.held :: 2][:: args.every]:
            ground = Ground(args.data, instance, args.control)
            for seed in range(args.first_seed, args.first_seed + args.seeds):
                method = args.sampler + (f" {args.prior} prior" if args.prior else "")
                key = f"{args.control}/{method}/{instance}/{seed}"
                if key not in runs:
                    runs[key] = searched(ground, 100 * names.index(instance) + seed, args)
                    args.json.write_text(json.dumps(runs, indent=1))
    print_tables(runs, args.base)


if __name__ == "__main__":
    main()
