"""Broad, narrow, rerank, fine-tune as one command, killed on the way: real processes, Ray, PostgreSQL."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import LOW_RATES, TINY, child_text

from searcher.ledger.database import Database
from searcher.study.layout import trial_folder

BROAD = TINY.replace('name = "tiny"', 'name = "broad"').replace("epochs = 4", "epochs = 2").replace(
    "grace_epochs = 1", 'name = "none"'
)  # fmt: skip
UNPRUNED = '[pruner]\nname = "none"\n[search]\nsampler = "random"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four study files, each the parent of the next."""
    fresh = f'{UNPRUNED}[optimizer]\nname = "adamw"\n{LOW_RATES}'
    for name, text in {
        "broad": BROAD,
        "narrow": child_text("narrow", "broad.toml", "refine", "min_complete = 3", trials=3, rest=UNPRUNED),
        "rerank": child_text("rerank", "narrow.toml", "rerank", "best = 2\nreplicates = 2"),
        "fine": child_text("fine", "rerank.toml", "finetune", trials=2, rest=fresh),
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def searcher(folder: Path, cache_dir: Path, url: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "searcher.cli.main", *words],
        cwd=folder,
        env=os.environ | {"SEARCHER_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1", "SEARCHER_DB": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*args: object, code: int = 0) -> str:
    process = searcher(*args)  # type: ignore[arg-type]
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output
    return output


def wait_for_narrow(url: str, driver: subprocess.Popen) -> None:
    """Wait until the second study has an epoch."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert driver.poll() is None, driver.stdout.read()
        with Database.open(url) as database:
            if "narrow" in database.study_names() and any(t.num_epochs for t in database.trials("narrow")):
                return
        time.sleep(0.3)
    raise AssertionError("the second study does not get going")


def test_one_command_killed_in_the_middle_and_run_again(
    folder, cache_dir, fresh_postgres_url, cluster_address
):
    url = fresh_postgres_url
    Database.open(url, create=True).close()
    missing = run(folder, cache_dir, url, "launch", "--study", "narrow.toml", code=2)
    assert "parent.study must have been launched, got broad" in missing
    assert missing.count("\n") == 1

    line = ("launch", "--study", "fine.toml", "--with-parents", "--address", cluster_address)
    driver = searcher(folder, cache_dir, url, *line)
    wait_for_narrow(url, driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()

    output = run(folder, cache_dir, url, *line)
    assert "broad: all trials done already" in output
    assert "fine: all 2 trials done" in output
    with Database.open(url) as database:
        budgets = {"broad": 4, "narrow": 3, "rerank": 4, "fine": 2}
        trials = {name: database.trials(name) for name in budgets}
        rows = {name: database.study_row(name) for name in budgets}
    for name, budget in budgets.items():
        states = [trial.state for trial in trials[name]]
        assert states.count("COMPLETE") == budget, (name, states)
        assert "RUNNING" not in states
    assert rows["narrow"].parent_study == "broad"
    assert set(rows["narrow"].parent_trials) <= {trial.number for trial in trials["broad"]}
    folds = {
        (t.params["parent.trial"], t.params["data.fold"]) for t in trials["rerank"] if t.state == "COMPLETE"
    }
    assert len(folds) == 4

    # The winner of the rerank is where fine-tuning began, by the digest of its bytes; every tensor was loaded.
    winner = trials["rerank"][rows["fine"].parent_trial]
    assert rows["fine"].parent_sha256 == winner.checkpoints["best"].sha256
    begun = [t for t in trials["fine"] if t.state == "COMPLETE"]
    for trial in begun:
        assert trial.notes["warm_start"]["num_loaded"] > 20
        assert not trial.notes["warm_start"]["reset"]
        # An epoch at such a low rate hardly moves it: it begins where the winner was, not at random weights.
        assert trial.epochs[1]["loss"] == pytest.approx(winner.value, rel=0.25)

    shown = run(folder, cache_dir, url, "best", "--study", "rerank")
    assert "in the search" in shown
    assert "drop" in shown
    again = run(folder, cache_dir, url, *line)
    assert again.count("all trials done already") == 3
    # What a child began from is not collected.
    kept = Path(rows["rerank"].storage_root) / trial_folder("rerank", winner.number) / "best.pt"
    run(folder, cache_dir, url, "gc", "--study", "rerank", "--keep", "1")
    assert kept.is_file()
