"""What people wait for, as ratios: how far each wait is above the least that the machine allows.

    python tests/benchmarks/waiting.py verbs              # starts of a bare interpreter
    python tests/benchmarks/waiting.py launch             # Ray's start and a first task that imports torch
    python tests/benchmarks/waiting.py epoch unet-broad   # bare steps of the same network on batches in memory
    python tests/benchmarks/waiting.py predict            # bare forward passes over the same tiles

Each prints medians of several turns, in which the methods alternate, and the range of the ratios. Run it on a quiet
machine. All images are synthetic glands.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

SEARCHER = [sys.executable, "-m", "searcher.cli.main"]
VERBS = (
    ["--help"],
    ["studies"],
    ["validate", "unet-broad"],
    ["status"],
    ["best", "--study", "unet-demo"],
    ["trials", "--study", "unet-demo"],
)
LAUNCH = ["launch", "--study", "unet-demo", "--trials", "1", "--epochs", "1"]
BARE_RAY = """
import ray
ray.init(include_dashboard=False, _node_ip_address="127.0.0.1")
@ray.remote
def task():
    import torch
    return torch.__version__
ray.get(task.remote())
print("done", flush=True)
"""


def compared(name: str, ours: Callable[[], float], limit: Callable[[], float], turns: int) -> None:
    """Measure both in turns and print their medians in seconds, and their ratio with its range."""
    pairs = [(limit(), ours()) for _ in range(turns)]
    ratios = sorted(our / least for least, our in pairs)
    least, our = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(
        f"{name:32} {our:8.3f} s, limit {least:8.3f} s, ratio {statistics.median(ratios):6.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {turns} turns)",
        flush=True,
    )


# ---- the command line ----------------------------------------------------------------------------------


def run_once(command: Sequence[str], folder: Path) -> float:
    """Return the seconds until a command ends."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def verbs(arguments: argparse.Namespace) -> None:
    """Compare verbs that only look with `python -c pass`."""
    bare = [sys.executable, "-c", "pass"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([*SEARCHER, *LAUNCH], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for words in VERBS:
            command = [*SEARCHER, *words]
            compared(
                f"searcher {' '.join(words)}",
                lambda command=command: run_once(command, folder),
                lambda: run_once(bare, folder),
                arguments.turns,
            )


def seconds_until(word: str, command: Sequence[str], folder: Path) -> float:
    """Return the seconds until a command prints a line that has a word, and wait for its end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    found = next((time.perf_counter() - began for line in process.stdout if word in line), None)
    with contextlib.suppress(ValueError):
        process.stdout.read()
    assert process.wait() == 0
    assert found is not None, f"nothing printed has {word!r}"
    return found


def launch(arguments: argparse.Namespace) -> None:
    """Compare a launch up to its first epoch with the least that Ray and torch need."""
    with tempfile.TemporaryDirectory() as scratch:
        turn = iter(range(10**6))

        def ours() -> float:
            folder = Path(scratch) / f"{next(turn)}"
            folder.mkdir()
            return seconds_until(" epoch 1/", [*SEARCHER, *LAUNCH], folder)

        compared(
            "launch to the first epoch",
            ours,
            lambda: seconds_until("done", [sys.executable, "-c", BARE_RAY], Path(scratch)),
            arguments.turns,
        )


# ---- training ------------------------------------------------------------------------------------------


def epoch(arguments: argparse.Namespace) -> None:
    """Compare the epochs of a trial with bare steps of its network, and validation with bare forward passes."""
    import torch

    from searcher.api.training import only_point
    from searcher.inference.precision import autocast, default_device, resolve_precision
    from searcher.models.values import TensorBatch
    from searcher.study.catalog import load_study
    from searcher.training.dataset import DataRequest
    from searcher.training.optimizers import build_optimizer
    from searcher.training.reporter import Decision
    from searcher.training.trainer import Trainer

    pairs = [text.split("=", 1) for text in arguments.set]
    settings = {
        "data.synthetic_images": arguments.images,
        "data.synthetic_size_px": arguments.size_px,
        "data.samples_per_epoch": arguments.samples,
        "train.epochs": arguments.turns + 2,  # the last one would tune
        **{key: tomllib.loads(f"value = {value}")["value"] for key, value in pairs},
    }
    spec = load_study(arguments.study, settings)
    config = spec.trial_config(only_point(spec))
    device = default_device()
    dtype = resolve_precision(config.train.precision, device)
    metrics: list[dict[str, float]] = []

    class Report:
        def report(self, epoch: int, values: dict[str, float]) -> Decision:
            del epoch
            metrics.append(dict(values))
            return Decision.CONTINUE

    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = DataRequest(None, str(scratch), config.data).prepare()
        trainer = stack.enter_context(Trainer(config, spec.objective, store=store, run_dir=scratch / "run"))
        model = trainer.learner.model
        optimizer = build_optimizer(model, config.optimizer)
        batches = [
            TensorBatch(
                images=torch.from_numpy(batch.images.copy()).to(device),
                labels=torch.from_numpy(batch.labels.copy()).to(device),
            )
            for batch in trainer._stream.epoch(0)
        ]
        images = [torch.from_numpy(store.image(i).copy()).to(device)[None] for i in trainer._val_indices]
        report, rows = Report(), []
        trainer.step(report)  # warm
        for _ in range(arguments.turns):
            model.train()
            began = time.perf_counter()
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                with autocast(device, dtype):
                    loss = torch.stack([*model.training_step(batch).values()]).sum()
                loss.backward()
                optimizer.step()
            _wait(device)
            steps_s = time.perf_counter() - began
            model.eval()
            began = time.perf_counter()
            with torch.no_grad(), autocast(device, dtype):
                for image in images:
                    model.evaluate(
                        TensorBatch(images=image, labels=torch.zeros_like(image[..., 0], dtype=torch.int32))
                    )
            _wait(device)
            passes_s = time.perf_counter() - began
            trainer.step(report)
            rows.append((steps_s, passes_s, metrics[-1]))
    for name, ratio in (
        ("training, of the limit", [s / (m["epoch_s"] - m["eval_s"]) for s, _, m in rows]),
        ("training + validation, of both", [(s + p) / m["epoch_s"] for s, p, m in rows]),
        ("whole epoch, of the steps alone", [s / m["epoch_s"] for s, _, m in rows]),
        ("validation, in forward passes", [m["eval_s"] / p for _, p, m in rows]),
    ):
        print(
            f"{arguments.study:16} {name:34} {statistics.median(ratio):5.2f} "
            f"({min(ratio):.2f} to {max(ratio):.2f}, {len(rows)} turns)"
        )


# ---- prediction ----------------------------------------------------------------------------------------


def predict(arguments: argparse.Namespace) -> None:
    """Compare the prediction of a large image, with all outputs, with bare forward passes over its tiles in memory."""
    import numpy as np
    import torch
    from predict_memory import draw

    from searcher.data_pipeline.tiling import tile_grid
    from searcher.inference.precision import default_device
    from searcher.inference.predictor import Predictor
    from searcher.models.registry import build_model
    from searcher.models.settings import PostprocessSettings, UNetSettings
    from searcher.prediction.dense import DEFAULT_TILE_PX
    from searcher.prediction.file_prediction import Options, predict_image
    from searcher.prediction.images import open_image

    torch.manual_seed(0)
    model = build_model(
        UNetSettings(base_channels=arguments.base_channels), PostprocessSettings(threshold=0.5)
    )
    device = default_device()
    predictor = Predictor([model.to(device)], device=device)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        image, outputs = Path(scratch) / "image.tif", Path(scratch) / "out"
        outputs.mkdir()
        draw(image, arguments.side_px)
        tiles = tile_grid(arguments.side_px, arguments.side_px, tile_px=DEFAULT_TILE_PX, overlap_px=128)
        with open_image(image, outputs, predictor.kind) as raster:
            tile = np.ascontiguousarray(raster.read(tiles[0]))

        def ours() -> float:
            began = time.perf_counter()
            predict_image(image, predictor, Options(folder=outputs))
            return time.perf_counter() - began

        def limit() -> float:
            began = time.perf_counter()
            for _ in tiles:
                predictor.see_tile(tile)
            return time.perf_counter() - began

        compared(f"predict {arguments.side_px} x {arguments.side_px}", ours, limit, arguments.turns)


def _wait(device: object) -> None:
    import torch

    if str(device).startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    added = {}
    for function, turns in ((verbs, 7), (launch, 5), (epoch, 5), (predict, 5)):
        kind = added[function] = kinds.add_parser(function.__name__, help=function.__doc__)
        kind.add_argument("--turns", type=int, default=turns)
        kind.set_defaults(run=function)
    added[epoch].add_argument("study")
    added[epoch].add_argument("--images", type=int, default=16)
    added[epoch].add_argument("--size-px", type=int, default=384)
    added[epoch].add_argument("--samples", type=int, default=24)
    added[epoch].add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    added[predict].add_argument("--side-px", type=int, default=10_000)
    added[predict].add_argument("--base-channels", type=int, default=16)
    arguments = parser.parse_args()
    os.environ.pop("SEARCHER_DB", None)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
