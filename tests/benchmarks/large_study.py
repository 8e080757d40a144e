"""How long the reading verbs take on a study of many trials.

    python tests/benchmarks/large_study.py --trials 10000 --epochs 10

Makes an SQLite database with one study, written through Optuna and the ledger's own tables (no training), and runs
each verb as a process of its own, three times; prints the median, the largest resident memory, and the database's
size. The start of Python with what a verb imports is in the times; `--version` is the bare start.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import optuna
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


def make(folder: Path, num_trials: int, num_epochs: int) -> Path:
    """Write the database and return its file."""
    file = folder / "large.toml"
    file.write_text(STUDY.format(trials=num_trials))
    spec = load_study(str(file), {})
    path = folder / "searcher.db"
    with Database.open(str(path), create=True) as database:
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
    return path


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


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Return seconds and the peak resident memory in MiB of one run of `searcher`."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "searcher.cli.main", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert process.stderr is not None
    assert status == 0, process.stderr.read().decode()
    return time.monotonic() - started, usage.ru_maxrss // 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        path = make(Path(folder), args.trials, args.epochs)
        print(f"made in {time.monotonic() - started:.0f} s, {path.stat().st_size / 1e6:.0f} MB")
        environment = {**os.environ, "SEARCHER_DB": str(path)}
        print("| searcher | seconds | MiB |\n|---|---:|---:|")
        for verb in VERBS:
            runs = [timed(verb, environment) for _ in range(3)]
            seconds, peak = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
            print(f"| {' '.join(verb)} | {seconds:.1f} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
