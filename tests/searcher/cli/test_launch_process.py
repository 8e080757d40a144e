"""`searcher launch` as a process of its own, with a cluster of its own, on PostgreSQL; tests/chaos has the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_study import TINY

from searcher.ledger.database import Database


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("epochs = 4", "epochs = 15"))
    return path


def start(study_file: Path, cache_dir: Path, database: str) -> subprocess.Popen:
    environment = os.environ | {
        "SEARCHER_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1", "SEARCHER_DB": database,
    }  # fmt: skip
    del environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # the launch must see to it itself
    command = [sys.executable, "-m", "searcher.cli.main", "launch", "--study", str(study_file)]
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


def test_a_cluster_of_its_own_listens_on_loopback_knows_no_password_and_ends_with_a_sigterm(
    study_file, cache_dir, fresh_postgres_url
):
    driver = start(study_file, cache_dir, fresh_postgres_url)
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
    assert "s3cret-pw" not in output
    kept = [path for path in (study_file.parent / "runs").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"s3cret-pw" in path.read_bytes()]
    with Database.open(fresh_postgres_url) as database:
        assert "RUNNING" not in database.study("tiny").counts
