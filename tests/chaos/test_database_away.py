"""The database goes away in mid-study: stopped, cut off in the middle of a commit, locked."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_facts import assert_finished
from chaos_harness import Driver, Study, fault, wait_until
from chaos_postgres import PASSWORD, Cut, Proxy, Server
from chaos_secrets import assert_kept

_AWAY, _BACK = "is away", "the database is back after"
_SECRET_KEPT = (
    "in no output, log, checkpoint, scratch file, table or command line, in neither environment nor memory of any "
    "process of Ray"
)


def assert_said_once(driver: Driver, *, times: int = 1) -> None:
    """The driver said that it waits, and that it continues, once for each outage."""
    said = driver.output
    assert said.count("nothing is lost") == said.count(_BACK) == times, said
    assert said.count(_AWAY) == times, f"something else complains too:\n{said}"


@pytest.mark.fault(
    "PostgreSQL stopped for 20 s in mid-study, then restarted",
    holds="the driver says once that it waits and once that it continues; no trial fails; every epoch once; exact "
    "budget",
)
@pytest.mark.fault(
    "a password in SEARCHER_DB and PGPASSWORD, while PostgreSQL is away and afterwards", holds=_SECRET_KEPT
)
def test_a_stopped_postgres_is_waited_for_and_its_password_kept(
    new_study: Callable[..., Study], postgres: Server, scratch: Path, fact: Callable[[str], None]
):
    url = postgres.new_database("stopped")
    study = new_study(database=url, address=None, trials=4, epochs=8, grace_epochs=4)
    halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=2)
    driver = study.start(
        faults=[halt],
        environment={"TMPDIR": str(scratch), "PGPASSWORD": PASSWORD},
    )
    wait_until(
        "two trials stand before their third epoch", lambda: driver.hanging("third") == 2, driver=driver
    )
    study.wait_for_epochs(4, driver)
    driver.assert_on_loopback()
    postgres.stop()
    stopped = time.monotonic()
    driver.let_go("third")
    wait_until("the driver says that it waits", lambda: _AWAY in driver.output, driver=driver, timeout_s=60)
    looked_at = assert_kept(PASSWORD, driver, scratch, study.runs)
    while time.monotonic() < stopped + 20:
        assert driver.process.poll() is None, driver.output
        time.sleep(0.5)
    postgres.start()
    wait_until("it says that it continues", lambda: _BACK in driver.output, driver=driver)
    output = driver.ends_with(0)
    assert PASSWORD not in output
    facts = study.facts()
    assert_finished(facts, study.runs, budget=4, epochs=8)
    assert facts.states["FAIL"] == 0, "no trial suffered"
    assert len(facts.launches) == 1
    assert_said_once(driver)
    fact(f"{facts.summary()}; '{next(line for line in output.splitlines() if _BACK in line)}'; {looked_at}")


_ASK = (r"INSERT INTO trials ",)
_EPOCH = (r"INSERT INTO searcher_epochs",)
_TELL = (r"UPDATE trials SET", "COMPLETE|PRUNED")


@pytest.mark.fault(
    "the connection cut in the middle of a tell, of an ask and of an epoch: before the COMMIT arrives, and after it, "
    "before its answer does",
    holds="each outage is said once; no trial twice, none forgotten; every epoch once; exact budget",
)
@pytest.mark.fault("a password in the file of `--db @FILE`", holds=_SECRET_KEPT)
def test_a_connection_cut_at_a_commit_neither_doubles_nor_loses_anything(
    new_study: Callable[..., Study], postgres: Server, scratch: Path, fact: Callable[[str], None]
):
    study = new_study(address=None, trials=5, epochs=4)
    direct = postgres.new_database("cut")
    file = study.folder / "database-url"
    with Proxy(postgres) as proxy:
        file.write_text(proxy.url(direct) + "\n")
        proxy.cuts = [
            Cut(having, committed=committed, away_s=1.0)
            for having in (_ASK, _EPOCH, _TELL)
            for committed in (True, False)
        ]
        halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3)
        driver = study.start(
            *("--db", f"@{file}"),
            faults=[halt],
            environment={"TMPDIR": str(scratch)},
        )
        wait_until("a third epoch is about to begin", lambda: driver.hanging("third"), driver=driver)
        looked_at = assert_kept(PASSWORD, driver, scratch, study.runs, url=direct)
        driver.let_go("third")
        output = driver.ends_with(0)
    assert all(cut.happened.is_set() for cut in proxy.cuts), proxy.cuts
    assert PASSWORD not in output
    study.database = direct
    facts = study.facts()
    assert_finished(facts, study.runs, budget=5, epochs=4)
    asked_in_vain = [trial for trial in facts.failed() if not trial.params]
    assert len(facts.trials) - len(asked_in_vain) == 5, facts.summary()
    assert len(asked_in_vain) <= 1, "at most the trial whose COMMIT went unanswered"
    assert len(facts.launches) == 1
    num_said = output.count(_BACK)
    assert_said_once(driver, times=num_said)
    assert len(proxy.cuts) - 2 <= num_said <= len(proxy.cuts), (
        "Optuna itself may have tried the two asks again"
    )
    fact(f"{len(proxy.cuts)} cuts; {facts.summary()}; {looked_at}")


_HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(20)
connection.execute("ROLLBACK")
"""


@pytest.mark.fault(
    "SQLite held locked by another process for 20 s",
    holds="the driver says once that it waits and once that it continues; no trial fails; every epoch once; exact "
    "budget",
)
def test_a_locked_sqlite_is_waited_for(new_study: Callable[..., Study], fact: Callable[[str], None]):
    study = new_study(trials=4, epochs=8, grace_epochs=4)
    halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=2)
    driver = study.start(faults=[halt])
    wait_until(
        "two trials stand before their third epoch", lambda: driver.hanging("third") == 2, driver=driver
    )
    study.wait_for_epochs(4, driver)
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, study.url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        driver.let_go("third")
        assert holder.wait(60) == 0
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    output = driver.ends_with(0)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=4, epochs=8)
    assert facts.states["FAIL"] == 0, "no trial suffered"
    assert_said_once(driver)
    fact(f"{facts.summary()}; '{next(line for line in output.splitlines() if _BACK in line)}'")
