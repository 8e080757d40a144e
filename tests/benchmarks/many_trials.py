"""What a thousand short trials through one driver cost: trials a minute, memory, database, files.

    python tests/benchmarks/many_trials.py --trials 1000

A real `searcher launch` on a Ray cluster of its own: the smallest U-Net, one epoch of one step on synthetic glands, two
trials at a time, TPE. It is watched from outside every second: the resident memory of the driver, of the trials' actors
and of Ray's own processes, and how many trials are done. Printed are the medians of the first quarter of the trials, of
the middle half and of the last quarter, and the slope after the first tenth. `--url` takes a PostgreSQL database.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from searcher.ledger import engine as engines

STUDY = """
[study]
name = "short"
objective = "loss"
trials = {trials}
[search]
sampler = "{sampler}"
[pruner]
name = "none"
[resources]
cpus = 1
max_concurrent = {concurrent}
pictures = {pictures}
[data]
synthetic_images = 12
synthetic_size_px = 64
samples_per_epoch = 4
num_threads = 0
val_fraction = 0.2
[augment]
preset = "none"
crop_px = 64
[model]
base_channels = 2
depth = 2
norm = "batch"
[train]
epochs = 1
batch_size = 4
[space.optimizer]
name = {{ choices = ["sgd", "adamw"] }}
lr = {{ low = 1e-4, high = 1e-1, log = true }}
momentum = {{ low = 0.0, high = 0.9, when = {{ "optimizer.name" = ["sgd"] }} }}
"""
_EVERY_S = 1.0
_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at the launch."""

    seconds: float
    num_done: int
    driver_mib: float
    actor_mib: float
    """The largest of the trials' actors."""
    ray_mib: float
    """Ray's own processes and idle workers together."""
    num_threads: int
    """Of the driver."""


def resident(process: psutil.Process) -> float:
    """Return the resident memory of a process in MiB, 0 for one that has just ended."""
    try:
        return float(process.memory_info().rss / _MIB)
    except psutil.NoSuchProcess:
        return 0.0


def is_actor(process: psutil.Process) -> bool:
    """Return whether trials run in a process."""
    try:
        return "TrialTrainable" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def watch(process: subprocess.Popen[bytes], database: sa.Engine) -> list[Sample]:
    """Look at a launch until it ends."""
    driver = psutil.Process(process.pid)
    samples = []
    started = time.monotonic()
    while process.poll() is None:
        try:
            children = driver.children(recursive=True)
            num_threads = driver.num_threads()
        except psutil.NoSuchProcess:
            break
        actors = [child for child in children if is_actor(child)]
        samples.append(
            Sample(
                seconds=round(time.monotonic() - started, 2),
                num_done=num_done(database),
                driver_mib=resident(driver),
                actor_mib=max(map(resident, actors), default=0.0),
                ray_mib=sum(resident(child) for child in children if child not in actors),
                num_threads=num_threads,
            )
        )
        time.sleep(_EVERY_S)
    return samples


def num_done(database: sa.Engine) -> int:
    """Return how many trials are COMPLETE; 0 where the tables are not there yet."""
    try:
        with database.connect() as connection:
            query = sa.text("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")
            return int(connection.execute(query).scalar_one())
    except sa.exc.DatabaseError:
        return 0


def of_trials(database: sa.Engine) -> dict[str, float]:
    """Return medians over the trials, in seconds: from start to end, and of that what its epoch took."""
    with database.connect() as connection:
        durations = [
            (ended - began).total_seconds()
            for began, ended in connection.execute(
                sa.text("SELECT datetime_start, datetime_complete FROM trials").columns(
                    datetime_start=sa.DateTime, datetime_complete=sa.DateTime
                )
            )
        ]
        epochs = connection.execute(
            sa.text("SELECT metrics FROM searcher_epochs").columns(metrics=sa.JSON)
        ).scalars()
        work = [metrics["epoch_s"] for metrics in epochs]
    return {
        "trial_s": statistics.median(durations),
        "epoch_s": statistics.median(work),
    }


def slope(samples: list[Sample], what: str) -> float:
    """Return by how many MiB something grows per 1,000 trials: least squares."""
    xs = [sample.num_done for sample in samples]
    ys = [getattr(sample, what) for sample in samples]
    x_mean, y_mean = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return 1000 * covariance / spread if spread else 0.0


def print_memory(samples: list[Sample], num_trials: int) -> None:
    """Print a row for each kind of process."""
    within = [sample for sample in samples if 0 < sample.num_done < num_trials]
    settled = [sample for sample in within if sample.num_done > num_trials / 10]
    parts = {
        "first quarter": [s for s in within if s.num_done <= num_trials / 4],
        "middle half": [s for s in within if num_trials / 4 < s.num_done <= 3 * num_trials / 4],
        "last quarter": [s for s in within if s.num_done > 3 * num_trials / 4],
    }
    print(f"| MiB, median of the | {' | '.join(parts)} | slope per 1,000 trials |\n|---|---:|---:|---:|---:|")
    for title, what in (
        ("driver", "driver_mib"),
        ("largest actor", "actor_mib"),
        ("all else of Ray", "ray_mib"),
    ):
        medians = [
            statistics.median([getattr(each, what) for each in part] or [0.0]) for part in parts.values()
        ]
        print(f"| {title} | {' | '.join(f'{m:.0f}' for m in medians)} | {slope(settled, what):+.0f} |")
    for title, part in parts.items():
        if len(part) > 1:
            rate = 60 * (part[-1].num_done - part[0].num_done) / (part[-1].seconds - part[0].seconds)
            print(f"trials a minute, {title}: {rate:.0f}")
    print(f"threads of the driver: {within[0].num_threads} first, {within[-1].num_threads} last")


def print_files(database: sa.Engine, runs: Path, num_trials: int) -> None:
    """Print the sizes of the database and of the storage root."""
    files = [path for path in runs.rglob("*") if path.is_file()]
    num_bytes = sum(path.stat().st_size for path in files)
    if database.dialect.name == "sqlite":
        path = Path(str(database.url.database))
        size = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
    else:
        with database.connect() as connection:
            size = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
    print(f"database: {size / 1e6:.1f} MB, {size / num_trials / 1e3:.1f} kB a trial")
    print(
        f"storage root: {len(files)} files, {num_bytes / 1e6:.1f} MB; "
        f"{len(files) / num_trials:.1f} files and {num_bytes / num_trials / 1e3:.1f} kB a trial"
    )


def main() -> None:
    """Launch, watch, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--concurrent", type=int, default=2, help="trials at a time")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pictures", type=int, default=0, help="of each trial; 3 is what a study has")
    parser.add_argument("--url", help="an empty PostgreSQL database; default an SQLite file")
    parser.add_argument("--json", type=Path, help="all samples")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-", dir="/tmp") as scratch:
        folder = Path(scratch)
        study = folder / "short.toml"
        settings = {name: getattr(args, name) for name in ("trials", "concurrent", "sampler", "pictures")}
        study.write_text(STUDY.format(**settings))
        where = args.url or str(folder / "searcher.db")
        command = [sys.executable, "-m", "searcher.cli.main", "launch", "--study", str(study)]
        environment: dict[str, Any] = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "SEARCHER_CACHE": str(folder / "cache"),
            "SEARCHER_DB": where,
        }
        address = engines.parse_url(where)
        arguments = engines.engine_arguments(address)
        database = sa.create_engine(engines.bare_url(address), poolclass=sa.pool.NullPool, **arguments)
        started = time.monotonic()
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [*command, "--storage", str(folder / "runs")],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                samples = watch(process, database)
            finally:
                process.terminate()
                process.wait()
        assert process.returncode == 0, (folder / "output").read_text()[-2000:]
        wall_s = time.monotonic() - started
        first = next(sample for sample in samples if sample.num_done > 0)
        print(
            f"{args.trials} trials in {wall_s:.0f} s, of them {first.seconds:.0f} s until the first was done"
        )
        print(", ".join(f"{name} {value:.3f}" for name, value in of_trials(database).items()))
        print_memory(samples, args.trials)
        print_files(database, folder / "runs", args.trials)
        if args.json:
            args.json.write_text(json.dumps([asdict(sample) for sample in samples]))


if __name__ == "__main__":
    main()
