"""`searcher launch` as a process of its own, with a cluster of its own, on PostgreSQL; tests/chaos has the rest."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from tiny_study import TINY

from searcher.ledger.database import Database


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(
        TINY.replace("epochs = 4", "epochs = 15")
        .replace("trials = 4", "trials = 3")
        .replace('"sgd", ', '"sgd", ')
    )
    return path


def start(study_file: Path, cache_dir: Path, *options: str, database: str | None = None) -> subprocess.Popen:
    environment = os.environ | {"SEARCHER_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1"}
    if "--address" not in options:
        del environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # the launch must see to it itself
    if database is not None:
        environment["SEARCHER_DB"] = database
    command = [sys.executable, "-m", "searcher.cli.main", "launch", "--study", str(study_file), *options]
    return subprocess.Popen(
        command,
        cwd=study_file.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_epochs(url: str, count: int, driver: subprocess.Popen) -> None:
    """Wait until the database holds as many epochs of the study."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert driver.poll() is None, driver.stdout.read()
        try:
            with Database.open(url) as database:
                if sum(trial.num_epochs for trial in database.trials("tiny")) >= count:
                    return
        except Exception:
            pass
        time.sleep(0.3)
    raise AssertionError("the study does not get going")


def finish(study_file: Path, cache_dir: Path, *options: str, database: str | None = None) -> str:
    driver = start(study_file, cache_dir, *options, "--set", "pruner.grace_epochs=2", database=database)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    return output


def assert_whole(url: str, *, budget: int) -> None:
    """The study has exactly its budget, nothing runs, and every finished trial has each of its epochs once."""
    with Database.open(url) as database:
        trials = database.trials("tiny")
    states = Counter(trial.state for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == budget, states
    assert states["RUNNING"] == 0, states
    done = [trial for trial in trials if trial.state in ("COMPLETE", "PRUNED")]
    assert len({str(sorted(trial.params.items())) for trial in done}) == budget
    for trial in done:
        assert list(trial.epochs) == list(range(1, trial.num_epochs + 1))
    for trial in trials:
        if trial.state == "FAIL":
            reason = trial.notes["fail_reason"]
            assert reason.startswith(("interrupted", "its driver", "its worker", "equal parameters")), reason


def test_a_cluster_of_its_own_listens_on_loopback_knows_no_password_and_ends_with_a_sigterm(
    study_file, cache_dir, fresh_postgres_url
):
    driver = start(study_file, cache_dir, database=fresh_postgres_url)
    wait_for_epochs(fresh_postgres_url, 2, driver)
    seen = 0
    family = psutil.Process(driver.pid).children(recursive=True)
    for process in family:
        listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, process.cmdline()
        assert "s3cret-pw" not in " ".join(process.cmdline()) + str(process.environ())
        seen += "TrialTrainable" in " ".join(process.cmdline())
    assert seen >= 1, "a worker was among them"
    driver.send_signal(signal.SIGTERM)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert not psutil.wait_procs(family, timeout=20)[1], "nothing of Ray is left"
    output += finish(study_file, cache_dir, database=fresh_postgres_url)
    assert "s3cret-pw" not in output
    kept = [path for path in (study_file.parent / "runs").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"s3cret-pw" in path.read_bytes()]
    assert_whole(fresh_postgres_url, budget=3)
