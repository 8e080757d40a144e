"""Which layout of the kernels, and which precision, trains the U-Net faster on this machine's CPU or GPU.

    python tests/benchmarks/training_layout.py [--base-channels 16] [--size-px 256] [--steps 8]

Prints images per second of whole optimiser steps, the median of a few turns. Activations are channels-last in
either case: the network's input is a view of the images' rows of RGB pixels.
"""

import argparse
import statistics
import time

import torch

from searcher.inference.precision import autocast, default_device, resolve_precision
from searcher.models.registry import build_model
from searcher.models.settings import PostprocessSettings, UNetSettings
from searcher.models.values import TensorBatch
from searcher.study.config import OptimizerConfig
from searcher.training.optimizers import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.turns):
        for precision in ("float32", "bfloat16"):
            for layout in (torch.contiguous_format, torch.channels_last):
                rates.setdefault((precision, str(layout)), []).append(measure(layout, precision, arguments))
    for (precision, layout), values in rates.items():
        print(f"{precision:9} {layout:24} {statistics.median(values):7.2f} images/s")


def measure(layout: torch.memory_format, precision: str, arguments: argparse.Namespace) -> float:
    torch.manual_seed(0)
    device = default_device()
    settings = UNetSettings(base_channels=arguments.base_channels, norm=arguments.norm)
    model = build_model(settings, PostprocessSettings())
    model.to(device=device, memory_format=layout)
    optimizer = build_optimizer(model, OptimizerConfig())
    size = arguments.size_px
    batch = TensorBatch(
        images=torch.randint(0, 256, (arguments.batch_size, size, size, 3), dtype=torch.uint8, device=device),
        labels=torch.randint(0, 2, (arguments.batch_size, size, size), dtype=torch.int32, device=device),
    )
    dtype = resolve_precision(precision, device)
    for step in range(arguments.steps + 2):
        if step == 2:
            started = time.perf_counter()
        optimizer.zero_grad()
        with autocast(device, dtype):
            loss = torch.stack([*model.training_step(batch).values()]).sum()
        loss.backward()
        optimizer.step()
        float(loss.detach())
    return arguments.steps * arguments.batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
