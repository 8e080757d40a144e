"""A Ray cluster of several nodes on this machine, and a launch that joins it: which node runs which trial.

    python tests/benchmarks/many_nodes.py --nodes 8 --trials 48

Each node is a raylet with one CPU's worth of trials, on loopback. `searcher launch --address` is a process of its own,
as a person starts it; the trials are those of `many_trials.py` with more epochs. What is printed is read from the
database afterwards: the note `node` of each trial, and its start. The nodes share this machine's cores: what they show
is that a launch drives so many, not how fast so many machines are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import searcher.orchestration  # noqa: F401  sets what ray reads when it is imported

from many_trials import STUDY, resident  # isort: skip
import psutil  # isort: skip
from ray.cluster_utils import Cluster  # isort: skip

_STORE_BYTES = 100 * 2**20


def start(num_nodes: int, folder: Path) -> Cluster:
    """Return a cluster whose nodes are all there."""
    head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": str(folder)}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"object_store_memory": _STORE_BYTES})
    for _ in range(num_nodes - 1):
        cluster.add_node(wait=False, num_cpus=1, object_store_memory=_STORE_BYTES)
    cluster.wait_for_nodes()
    return cluster


def print_trials(trials: list[dict[str, object]], started_at: datetime) -> None:
    """Print which node ran which trials, and how long it took until each had reported."""

    def since(text: object) -> float:
        return (datetime.fromisoformat(str(text)).astimezone(UTC) - started_at).total_seconds()

    done = [trial for trial in trials if trial["state"] in ("COMPLETE", "PRUNED")]
    by_node: dict[str, list[int]] = {}
    for trial in done:
        by_node.setdefault(str(trial["notes"]["node"]), []).append(int(str(trial["number"])))  # type: ignore[index]
    first = {node: min(since(trials[number]["ended_at"]) for number in of) for node, of in by_node.items()}
    print("| node | first trial done after | trials | their numbers |\n|---|---:|---:|---|")
    for node, numbers in sorted(by_node.items(), key=lambda entry: first[entry[0]]):
        print(f"| {node} | {first[node]:.0f} s | {len(numbers)} | {', '.join(map(str, numbers))} |")
    print(f"first trial begun after {min(since(trial['started_at']) for trial in done):.0f} s")
    print(f"states: {dict(Counter(str(trial['state']) for trial in trials))}, nodes: {len(by_node)}")


def main() -> None:
    """Start the cluster, launch, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="n-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        text = STUDY.format(trials=args.trials, concurrent=args.nodes, sampler="tpe", pictures=0)
        (folder / "short.toml").write_text(text.replace("epochs = 1", f"epochs = {args.epochs}"))
        environment = os.environ | {
            "SEARCHER_CACHE": str(folder / "cache"),
        }
        began = time.monotonic()
        cluster = start(args.nodes, folder / "ray")
        print(f"{args.nodes} nodes up after {time.monotonic() - began:.0f} s")
        searcher = [sys.executable, "-m", "searcher.cli.main"]
        database = ["--db", str(folder / "searcher.db")]
        try:
            began, started_at = time.monotonic(), datetime.now(UTC)
            launch = ["launch", "--study", str(folder / "short.toml"), "--storage", str(folder / "runs")]
            run = subprocess.run(
                [*searcher, *launch, *database, "--address", cluster.address],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]
            took_s = time.monotonic() - began
            memory = sum(map(resident, psutil.Process().children(recursive=True)))
        finally:
            cluster.shutdown()
        trials = subprocess.run(
            [*searcher, "trials", "--study", "short", "--json", *database],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"{args.trials} trials of {args.epochs} epochs in {took_s:.0f} s")
        print(f"resident memory of the cluster's processes, afterwards: {memory / 1024:.1f} GiB")
        print_trials(json.loads(trials.stdout), started_at)


if __name__ == "__main__":
    main()
