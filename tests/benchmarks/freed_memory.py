"""What a training step on the CPU costs with memory that is given back after use, and with memory that is kept.

    python tests/benchmarks/freed_memory.py [--turns 3] [--steps 8]

The network and batch are those that `studies/unet-instances.toml` trains first, on one thread, from random weights on
noise. Each turn is a process of its own, one with glibc's defaults and one with `keep_freed_memory`, in turn. Printed
are the medians over the turns: seconds a step (the median of a turn's), page faults a step, the process's peak.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from searcher.models.registry import build_model
from searcher.models.values import TensorBatch
from searcher.study.catalog import load_study
from searcher.training.device import keep_freed_memory
from searcher.training.optimizers import build_optimizer

SIZE_PX = 448
BATCH_SIZE = 8


def measure(num_steps: int) -> dict[str, float]:
    """Return the figures of this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = load_study("unet-instances", {"model.weights": "none"})
    config = spec.trial_config(spec.enqueue[0])
    model = build_model(config.model, config.postprocess).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config.optimizer)
    shape = (BATCH_SIZE, SIZE_PX, SIZE_PX)
    batch = TensorBatch(
        images=torch.randint(0, 256, (*shape, 3), dtype=torch.uint8),
        labels=torch.zeros(shape, dtype=torch.int32),
    )
    batch.labels[:, 50:200, 50:200] = 1
    batch.labels[:, 220:400, 100:300] = 2
    seconds = []
    for step in range(num_steps + 2):
        if step == 2:
            before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.stack([*model.training_step(batch).values()]).sum()
        loss.backward()
        optimizer.step()
        loss.detach().item()
        seconds.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": statistics.median(seconds[2:]),
        "faults": (after.ru_minflt - before.ru_minflt) / num_steps,
        "peak_gib": after.ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--one", choices=("given back", "kept"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        if args.one == "kept":
            keep_freed_memory(torch.device("cpu"))
        print(json.dumps(measure(args.steps)))
        return
    turns: dict[str, list[dict[str, float]]] = {"given back": [], "kept": []}
    for _ in range(args.turns):
        for way, results in turns.items():
            command = [sys.executable, __file__, "--one", way, "--steps", str(args.steps)]
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    print("| freed memory is | a step | page faults a step | peak |\n|---|---:|---:|---:|")
    for way, results in turns.items():
        seconds, faults, peak = (
            statistics.median(each[key] for each in results) for key in ("seconds", "faults", "peak_gib")
        )
        print(f"| {way} | {seconds:.2f} s | {faults:,.0f} | {peak:.2f} GiB |")


if __name__ == "__main__":
    main()
