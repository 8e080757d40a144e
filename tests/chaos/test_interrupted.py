"""A person or the system ends a launch: each way is clean, and each can be gone on from."""

import signal
from collections.abc import Callable

import pytest
from chaos_facts import assert_finished, assert_went_on
from chaos_harness import Driver, Study, wait_until


def ctrl_c(driver: Driver, study: Study) -> None:
    driver.send(signal.SIGINT)


def ctrl_c_twice(driver: Driver, study: Study) -> None:
    driver.send(signal.SIGINT)
    wait_until("the driver has heard it", lambda: "SIGINT" in driver.output, driver=driver)
    driver.send(signal.SIGINT)


def sigterm(driver: Driver, study: Study) -> None:
    driver.send(signal.SIGTERM)


def sighup(driver: Driver, study: Study) -> None:
    driver.send(signal.SIGHUP)


def searcher_stop(driver: Driver, study: Study) -> None:
    answer = study.run("stop")
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.fault(
    "Ctrl-C once; Ctrl-C twice; SIGTERM; SIGHUP; `searcher stop` from another process: one after the other",
    holds="each ends the launch with code 130 and no traceback, nothing RUNNING, and says how to resume; resuming "
    "trains no epoch twice and ends with the exact budget",
)
def test_however_a_launch_is_ended_the_next_launch_resumes(new_study: Callable[..., Study], chance, fact):
    study = new_study(trials=4, epochs=20, grace_epochs=10)
    ways = [ctrl_c, ctrl_c_twice, sigterm, sighup, searcher_stop]
    chance.shuffle(ways)
    print("order:", *[way.__name__ for way in ways])
    for way in ways:
        before = study.facts().num_trained
        driver = study.start(own_cluster=way is sigterm)
        study.wait_for_epochs(before + 2, driver)
        way(driver, study)
        output = driver.ends_with(130, timeout_s=60)
        driver.assert_nothing_left()
        facts = study.facts()
        assert facts.states["RUNNING"] == 0, way.__name__
        assert facts.launches[-1]["outcome"] == "interrupted", way.__name__
        assert facts.launches[-1]["ended_at"] is not None
        assert way is ctrl_c_twice or "to go on: searcher launch --study" in output
    study.finish()
    facts = study.facts()
    assert_finished(facts, study.runs, budget=4, epochs=20)
    saved = assert_went_on(facts)
    assert saved > 0
    for trial in facts.failed():
        assert trial.notes["fail_reason"].startswith("interrupted"), trial.notes
        assert facts.retries_of(trial.number), "an interruption is no attempt: it is always tried again"
    fact(f"{facts.summary()}; {saved} epochs taken over")
