"""Checkpoints that are damaged between two launches."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_facts import assert_finished, digest_of
from chaos_harness import Study, fault, wait_until


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0b100]))


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.fault(
    "the newest checkpoint truncated, with a flipped bit, deleted, between two launches",
    holds="the digest tells; the checkpoint before is used; the damage is in the database and said; the retry has "
    "every epoch once",
)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(trials=3, epochs=8, max_concurrent=3)
    no_pruning = ["--set", "pruner.name=none"]
    # Each worker waits before its fifth epoch: what is recorded and what lies on disk is then the same.
    hang = fault("fifth", "searcher.training.trainer:Trainer._run_epoch", "hang", call=5, times=3)
    driver = study.start(*no_pruning, faults=[hang])
    wait_until("three trials have four epochs", lambda: driver.hanging("fifth") == 3, driver=driver)
    before = study.wait_for_epochs(12, driver)
    wait_until("their checkpoints are recorded", lambda: _recorded(study, epoch=4), driver=driver)
    driver.kill()
    before = study.facts()
    damages = dict(
        zip([trial.number for trial in before.trials], [truncate, flip_a_bit, delete], strict=True)
    )
    for number, damage in damages.items():
        last = before.trials[number].checkpoints["last"]
        folder = (study.runs / last["uri"]).parent
        for path in folder.glob("*.pt"):  # `best.pt` may be another name of the same file
            if digest_of(path) == last["sha256"]:
                damage(path)
    output = study.finish(*no_pruning)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=3, epochs=8)
    for number, damage in damages.items():
        left = facts.trials[number]
        assert left.state == "FAIL"
        assert left.checkpoints["last"]["problem"], f"{damage.__name__} is recorded"
        assert left.checkpoints["previous"]["problem"] is None
        [retry] = facts.retries_of(number)
        assert retry.state == "COMPLETE"
        assert retry.epochs[:3] == left.epochs[:3], "taken over from the checkpoint before"
        assert retry.epochs[3] != left.epochs[3], "trained again"
        assert f"trial {retry.number} goes on after epoch 3" in output
    said = [
        line
        for line in output.splitlines()
        if "sha256" in line or "missing" in line or "bytes, recorded" in line
    ]
    assert len(said) >= 3, output
    fact(facts.summary())


def _recorded(study: Study, *, epoch: int) -> bool:
    trials = study.facts().trials
    return len(trials) == 3 and all(
        trial.checkpoints.get("last", {}).get("epoch") == epoch
        and trial.checkpoints.get("previous", {}).get("epoch") == epoch - 1
        for trial in trials
    )
