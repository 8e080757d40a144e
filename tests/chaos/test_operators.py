"""What people and clocks do to a study: a second driver, a clock that jumps, a deleted study, an edited file."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from chaos_facts import assert_finished, dump
from chaos_harness import Driver, Study, fault, wait_until
from chaos_postgres import Server


def assert_refused(driver: Driver, first: Driver) -> None:
    """A second driver was turned away in one line that names the first's host and process."""
    # From another host the lease has to be watched for a while, which is said first.
    [line] = [line for line in driver.ends_with(2).splitlines() if "; watching for " not in line]
    assert "one driver at a time" in line
    assert f"process {first.process.pid} on {socket.gethostname()}" in line
    assert "has run it for 0:0" in line


# ---- two drivers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
@pytest.mark.fault(
    "two drivers at the same instant on a new database",
    holds="exactly one runs; the other is refused in one line with host, process and age; exact budget",
)
def test_of_two_drivers_at_the_same_instant_exactly_one_runs(
    kind: str, new_study: Callable[..., Study], postgres: Server, fact: Callable[[str], None]
):
    database = postgres.new_database("two") if kind == "PostgreSQL" else None
    study = new_study(trials=2, database=database)
    together = fault("together", "searcher.ledger.database:Database.open", "hang", times=2)
    # The loser must find the winner at work, however late it comes: the winner's first epoch waits for its end.
    first = fault("first", "searcher.training.trainer:Trainer._run_epoch", "hang")
    drivers = [study.start(faults=[together, first]), study.start(faults=[together, first], keeps_plan=True)]
    wait_until(
        "both stand before the database", lambda: drivers[0].hanging("together") == 2, driver=drivers[0]
    )
    drivers[0].let_go("together")
    wait_until("one was refused", lambda: any(driver.process.poll() is not None for driver in drivers))
    [loser] = [driver for driver in drivers if driver.process.poll() is not None]
    [winner] = [driver for driver in drivers if driver is not loser]
    assert_refused(loser, winner)
    drivers[0].let_go("first")
    winner.ends_with(0)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=4)
    assert [launch["pid"] for launch in facts.launches] == [winner.process.pid]
    fact(f"{kind}: {facts.summary()}")


# ---- the clock -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faketime() -> str:
    """Path of libfaketime, which must work here."""
    spec = importlib.util.find_spec("libfaketime")
    [library] = Path(spec.origin).parent.rglob("libfaketime.so.1")
    command = [sys.executable, "-c", "import time; print(time.time())"]
    environment = os.environ | {"LD_PRELOAD": str(library), "FAKETIME": "@2001-01-01 00:00:00"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    if float(shown) > 1e9:
        pytest.skip("libfaketime does not work on this machine")
    return str(library)


@pytest.mark.fault(
    "the clock of the driver jumps 3 h ahead, then 6 h back; a second driver comes each time, from this host and "
    "from another",
    holds="the second is refused; the study ends exact",
)
def test_a_clock_that_jumps_lets_no_second_driver_in(
    new_study: Callable[..., Study], faketime: str, tmp_path: Path, fact: Callable[[str], None]
):
    """Where Ray's folder cannot lie in TMPDIR, it lies in /tmp."""
    study = new_study(trials=2, epochs=8, max_concurrent=1)
    odd = Path(f"{tmp_path}/a folder with spaces, whose path is too long for the sockets of Ray")
    odd.mkdir()
    clock = study.folder / "clock"
    clock.write_text("+0")
    hang = fault("rest", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3)
    faked = {
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "TZ": "Europe/Copenhagen",
        "TMPDIR": str(odd),
    }
    driver = study.start(faults=[hang], environment=faked)
    wait_until("the third epoch is about to begin", lambda: driver.hanging("rest"), driver=driver)
    renewed = study.facts().launches[-1]["renewed_at"]
    for jump in ("+3h", "-3h"):
        clock.write_text(jump)
        previous = renewed
        renewed = wait_until(
            "the lease is renewed",
            lambda known=previous: (now := study.facts().launches[-1]["renewed_at"]) != known and now,
            driver=driver,
        )
        others = [study.start(keeps_plan=True)]
        if os.geteuid() == 0:
            others.append(study.start(host="elsewhere", keeps_plan=True))
        for other in others:
            assert_refused(other, driver)
    driver.let_go("rest")
    driver.ends_with(0)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=8)
    assert len(facts.launches) == 1
    assert not list(odd.glob("searcher*")), "nothing is left in the folder for temporary files"
    fact(facts.summary())


# ---- the study itself ----------------------------------------------------------------------------------


@pytest.mark.fault(
    "a study file edited between launches",
    holds="refused with a diff; nothing in the database changed",
)
@pytest.mark.fault(
    "the study deleted through Optuna, in mid-run and between launches",
    holds="one clear line each time, no traceback, nothing trained on",
)
def test_an_edited_study_is_refused_and_a_deleted_one_is_said(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(trials=1, epochs=40, grace_epochs=20)
    driver = study.start()
    study.wait_for_epochs(2, driver)
    driver.kill()
    before = dump(study.url)
    text = study.file.read_text()
    study.file.write_text(
        text.replace("batch_size = 4", "batch_size = 2").replace("high = 1e-1", "high = 1.0")
    )
    lines = study.start("--trials", "3").ends_with(2).splitlines()
    assert len(lines) == 2
    assert any("train.batch_size was 4, got 2" in line for line in lines), lines
    assert any("space.optimizer.lr was" in line for line in lines), lines
    assert dump(study.url) == before
    fact(f"{len(lines)} differences; {sum(map(len, before.values()))} rows as they were")

    study.file.write_text(text)
    third = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3)
    driver = study.start("--trials", "3", faults=[third])
    wait_until("an epoch is about to begin", lambda: driver.hanging("third"), driver=driver)
    optuna.delete_study(study_name="tiny", storage=f"sqlite:///{study.url}")
    driver.let_go("third")
    assert driver.wait() in (1, 2), driver.output
    assert "Traceback" not in driver.output
    said = [line for line in driver.output.splitlines() if "deleted" in line]
    assert said, driver.output
    [line] = study.start().ends_with(2).splitlines()
    assert "deleted" in line
    fact(f"'{line.partition(';')[0]}'")
