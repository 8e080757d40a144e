"""Broad, narrow, rerank, fine-tune as one command, killed on the way: real processes, Ray, PostgreSQL."""

import os
import time
from pathlib import Path

import pytest
from forks import ForkedProcess, Forks
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


class Shell:
    """Runs `searcher` in a folder, on a database."""

    def __init__(self, folder: Path, cache_dir: Path, url: str, forks: Forks) -> None:
        self._folder, self._forks = folder, forks
        self._variables = os.environ | {
            "SEARCHER_CACHE": str(cache_dir),
            "OMP_NUM_THREADS": "1",
            "SEARCHER_DB": url,
        }
        self._said = folder / "said"

    def start(self, *words: str) -> ForkedProcess:
        with self._said.open("wb") as output:
            return self._forks.searcher(
                words, cwd=self._folder, environment=self._variables, output=output.fileno()
            )

    def run(self, *words: str, code: int = 0) -> str:
        found = self.start(*words).wait(240)
        assert found == code, self.said()
        return self.said()

    def said(self) -> str:
        """Return what the newest command has said so far."""
        return self._said.read_text()


def wait_for_narrow(url: str, shell: Shell, driver: ForkedProcess) -> None:
    """Wait until the second study has an epoch."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert driver.poll() is None, shell.said()
        with Database.open(url) as database:
            if "narrow" in database.study_names() and any(t.num_epochs for t in database.trials("narrow")):
                return
        time.sleep(0.3)
    raise AssertionError("the second study does not get going")


def test_one_command_killed_in_the_middle_and_run_again(
    folder, cache_dir, fresh_postgres_url, cluster_address, forks
):
    url = fresh_postgres_url
    shell = Shell(folder, cache_dir, url, forks)
    Database.open(url, create=True).close()
    missing = shell.run("launch", "--study", "narrow.toml", code=2)
    assert "parent.study must have been launched, got broad" in missing
    assert missing.count("\n") == 1

    line = ("launch", "--study", "fine.toml", "--with-parents", "--address", cluster_address)
    driver = shell.start(*line)
    wait_for_narrow(url, shell, driver)
    driver.kill()
    driver.wait()

    output = shell.run(*line)
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

    shown = shell.run("best", "--study", "rerank")
    assert "in the search" in shown
    assert "drop" in shown
    again = shell.run(*line)
    assert again.count("all trials done already") == 3
    # What a child began from is not collected.
    kept = Path(rows["rerank"].storage_root) / trial_folder("rerank", winner.number) / "best.pt"
    shell.run("gc", "--study", "rerank", "--keep", "1")
    assert kept.is_file()
