"""`searcher stop`, with drivers that are processes of their own; with a real launch it is in the chaos suite."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from searcher.api import stopping as stop
from searcher.cli.main import main
from searcher.ledger.lease import Lease
from searcher.ledger.tables import LaunchRow

DRIVER = """
import os, sys, threading
from searcher.ledger import lease as leases
from searcher.ledger.database import Database

leases.LOOK_EVERY_S = 0.05
asked = threading.Event()
with Database.open("searcher.db") as database, leases.Lease.acquire(database, "s") as lease:
    if sys.argv[1] == "deaf":
        lease.on_stop(lambda: None)
    else:
        lease.on_stop(asked.set)
    print("driving", flush=True)
    asked.wait(60)
    if sys.argv[1] == "dies":
        os._exit(9)
    lease.ends_as("interrupted")
"""


@pytest.fixture
def drive(stored_study, monkeypatch) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Start a driver that answers, is deaf, or dies when it is asked to stop."""
    monkeypatch.setattr(stop, "_POLL_S", 0.05)
    drivers = []

    def drive(how: str) -> subprocess.Popen:
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, how], stdout=subprocess.PIPE, text=True)
        drivers.append(driver)
        assert driver.stdout.readline() == "driving\n"
        return driver

    yield drive
    for driver in drivers:
        driver.kill()
        driver.wait()
        driver.stdout.close()


def test_a_driver_is_asked_and_waited_for(drive, stored_study, capsys):
    stored_study.complete()
    driver = drive("answers")
    assert main(["stop", "--study", "s"]) == 0
    output = capsys.readouterr().out
    assert f"s: asked process {driver.pid} on " in output
    assert "s: interrupted after 0:00:0" in output
    assert "1 of 9 trials done" in output
    assert driver.wait(10) == 0


def test_a_driver_that_goes_on_is_said_after_the_timeout_and_stays_asked(drive, stored_study, capsys):
    driver = drive("deaf")
    for _ in range(2):
        assert main(["stop", "--study", "s", "--timeout", "1"]) == 1
        error = capsys.readouterr().err
        assert "must have stopped within 1 s, still runs" in error
        assert error.count("\n") == 1
    assert driver.poll() is None
    with stored_study.database.read() as session:
        assert session.scalar(sa.select(LaunchRow.stop_requested_at)) is not None


def test_a_driver_that_dies_instead_is_said(drive, capsys):
    drive("dies").poll()
    assert main(["stop", "--study", "s"]) == 1
    error = capsys.readouterr().err
    assert (
        "is gone without a word; launch again to go on, or fix it with searcher doctor --fix --study s"
        in error
    )


def refused(capsys) -> str:
    assert main(["stop", "--study", "s"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("--study s: must be running to be stopped; ")
    assert error.count("\n") == 1
    return error


def test_where_none_drives_it_says_what_is_the_case(drive, stored_study, capsys):
    assert "it was never launched" in refused(capsys)
    with Lease.acquire(stored_study.database, "s") as lease:
        lease.ends_as("finished")
    assert "UTC, finished" in refused(capsys)
    driver = drive("deaf")
    driver.kill()
    driver.wait()
    assert f"its driver, process {driver.pid} on " in refused(capsys)


def test_an_unknown_study_is_refused(stored_study, capsys):
    assert main(["stop", "--study", "t"]) == 2
    assert "must be a study of" in capsys.readouterr().err
