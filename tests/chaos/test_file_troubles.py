"""Files that change under a launch: the database's own, and the decoded images in the cache."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from chaos_facts import assert_finished
from chaos_harness import Driver, Study, fault, wait_until


def _halt(name: str, call: int) -> dict:
    return fault(name, "searcher.training.trainer:Trainer._run_epoch", "hang", call=call)


def _stands(driver: Driver, name: str) -> None:
    wait_until(f"an epoch waits at {name}", lambda: driver.hanging(name), driver=driver)


def _backup(database: str, to: Path) -> Path:
    """Copy a database that is in use, as SQLite itself does."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
    return to


def _remove(database: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)


def _broke_off(driver: Driver, words: str) -> str:
    """Check that the driver ended with one line that has the words, and not as if all were well; return the line."""
    output = driver.ends_with(2)
    assert "all trials done" not in output
    [line] = {line for line in output.splitlines() if words in line and line.startswith("--")}
    return line


@pytest.mark.fault(
    "the SQLite file replaced by an older copy under a launch, then deleted under the next one",
    holds="each launch ends with one line and code 2; the next one resumes with the copy that is put there; exact "
    "budget",
)
def test_a_database_file_that_is_replaced_or_deleted_under_a_launch(
    new_study: Callable[..., Study], tmp_path: Path, fact: Callable[[str], None]
):
    study = new_study(trials=2, epochs=4, grace_epochs=4, max_concurrent=1)
    driver = study.start(faults=[_halt("second", 2), _halt("third", 3)])
    _stands(driver, "second")
    study.wait_for_epochs(1, driver)
    older = _backup(study.url, tmp_path / "older.db")
    driver.let_go("second")
    _stands(driver, "third")
    study.wait_for_epochs(2, driver)
    _remove(study.url)
    shutil.copy(older, study.url)
    driver.let_go("third")
    replaced = _broke_off(driver, "got another file")
    driver.assert_nothing_left()

    driver = study.start(faults=[_halt("second", 2)])
    _stands(driver, "second")
    newest = _backup(study.url, tmp_path / "newest.db")
    _remove(study.url)
    driver.let_go("second")
    deleted = _broke_off(driver, "got no file")
    driver.assert_nothing_left()
    assert not Path(study.url).exists(), "no empty database takes its place"

    shutil.copy(newest, study.url)
    study.finish()
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=4)
    fact(f"{facts.summary()}; '{replaced.partition(';')[0]}'; '{deleted.partition(';')[0]}'")


def _zero_labels(store: Path) -> None:
    """Make all labels background, in place: what no size and no name shows."""
    with (store / "labels.bin").open("r+b") as file:
        file.write(bytes((store / "labels.bin").stat().st_size))


@pytest.mark.fault(
    "the labels of the decoded images become zeros in mid-run, and stay so for the next launch",
    holds="one line each time; no epoch is written that saw them; `doctor` names the store and --fix removes it; the "
    "next launch builds it again and resumes; exact budget",
)
def test_labels_that_become_zeros_in_the_store_are_not_trained_on(
    new_study: Callable[..., Study], tmp_path: Path, fact: Callable[[str], None]
):
    study = new_study(trials=2, epochs=4, grace_epochs=4, max_concurrent=1)
    study.cache = tmp_path / "cache"
    driver = study.start(faults=[_halt("third", 3)])
    _stands(driver, "third")
    before = study.wait_for_epochs(2, driver)
    [labels] = study.cache.glob("*/labels.bin")
    store = labels.parent
    _zero_labels(store)
    driver.let_go("third")
    assert driver.wait() in (1, 2), driver.output
    assert "Traceback" not in driver.output
    said = f"{store}: the store must hold the bytes that were written into it, got others for labels of "
    assert said in driver.output
    facts = study.facts()
    assert facts.num_trained == before.num_trained, "no epoch saw the damaged labels"
    assert facts.states == {"FAIL": 1, "WAITING": 1}, "the study stopped at once, and its parameters are kept"
    assert facts.failed()[0].notes["fail_reason"].startswith(said)

    [line] = study.start().ends_with(2).splitlines()
    assert line.startswith(said)
    examined = study.run("doctor", "--json")
    assert examined.returncode == 1, examined.stdout
    assert str(store) in examined.stdout
    fixed = study.run("doctor", "--fix")
    assert fixed.returncode == 0, fixed.stdout
    assert not store.exists()
    study.finish()
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=4)
    fact(f"{facts.summary()}; '{line.partition(';')[0]}'")
