"""kill -9 of the driver: at ten moments of one study, and the same study left in peace."""

import random
import time
from collections.abc import Callable

import pytest
from chaos_facts import Facts, assert_finished, assert_went_on
from chaos_harness import Driver, Study, fault

_SETTINGS = {"trials": 8, "epochs": 12, "grace_epochs": 4}
_RUNGS = {4, 8}  # grace_epochs times powers of the tiny study's reduction_factor, 2, below its epochs
_STORAGE = "optuna.storages._rdb.storage:RDBStorage"
_TOLD = {"state": ["COMPLETE", "PRUNED"]}

_MOMENTS = {
    "start-up, before the lease": fault("k", "searcher.ledger.lease:Lease.acquire"),
    "start-up, after the lease": fault("k", "searcher.ledger.lease:Lease.acquire", when="after"),
    "between ask and parameters": fault("k", "optuna.study.study:Study.ask", when="after"),
    "between ask and start": fault(
        "k", "searcher.orchestration.trials.search:StudySearch.suggest", when="after"
    ),
    "mid-epoch": None,
    "while a checkpoint is written": fault("k", "searcher.atomic_files:HashingWriter.write", "kill-driver"),
    "between our epoch and Optuna's value": fault("k", f"{_STORAGE}.set_trial_intermediate_value"),
    "in a tell, before it is committed": fault("k", f"{_STORAGE}.set_trial_state_values", if_=_TOLD),
    "in a tell, after it is committed": fault(
        "k", f"{_STORAGE}.set_trial_state_values", if_=_TOLD, when="after"
    ),
    "while reconciling": fault("k", "optuna.study.study:Study.enqueue_trial", when="after"),
}
_LATEST_CALL = {"while a checkpoint is written": 2000, "between our epoch and Optuna's value": 4}
"""A checkpoint of the tiny study takes 560 writes."""
_START_UP = ("start-up, before the lease", "start-up, after the lease")
"""They interrupt no trial."""
_LEAVES_NOTHING = (*_START_UP, "between ask and parameters")
"""They leave no parameters of their own that could be queued again; the last one interrupts what runs beside it."""
_LEAVES_SOME = (
    "between ask and start",
    "mid-epoch",
    "while a checkpoint is written",
    "between our epoch and Optuna's value",
)
"""They leave a trial RUNNING that has parameters. After a tell there may be none: both trials may just have ended."""
_OWN_CLUSTER = ("mid-epoch", "while a checkpoint is written")


def shuffled(chance: random.Random) -> list[str]:
    """Return the moments in an order in which reconciliation has something to queue again.

    So it comes after one or two kills that leave parameters: those interrupted a third time are given up.
    """
    order = [moment for moment in _MOMENTS if moment != "while reconciling"]
    chance.shuffle(order)
    first = next(i for i, moment in enumerate(order) if moment not in _LEAVES_NOTHING)
    second = next(i for i, moment in enumerate(order) if i > first and moment not in _START_UP)
    if order[first] not in _LEAVES_SOME:
        other = order.index(chance.choice(_LEAVES_SOME))
        order[first], order[other] = order[other], order[first]
    places = range(first + 1, second + (2 if order[second] in _LEAVES_SOME else 1))
    order.insert(chance.choice(places), "while reconciling")
    return order


def kill_at(moment: str, study: Study, chance: random.Random) -> Driver:
    """Launch until the moment has killed the driver."""
    seen = study.facts().num_trained
    plan = _MOMENTS[moment]
    if plan and moment in _LATEST_CALL:
        plan = plan | {"call": chance.randint(1, _LATEST_CALL[moment])}
    driver = study.start(faults=[plan] if plan else [], own_cluster=moment in _OWN_CLUSTER)
    if plan is None:
        study.wait_for_epochs(seen + chance.randint(1, 4), driver)
        time.sleep(chance.uniform(0, 1))
        driver.kill()
    assert driver.wait() == -9, f"{moment}: {driver.output}"
    assert plan is None or driver.fired("k"), moment
    return driver


def assert_nothing_forgotten(before: Facts, after: Facts) -> None:
    """What was in the database once is there for ever; a finished trial is what it was."""
    for old, new in zip(before.trials, after.trials, strict=False):
        assert new.epochs[: len(old.epochs)] == old.epochs
        assert not old.is_done or new == old or new.checkpoints != old.checkpoints
        assert not old.is_done or (new.state, new.value, new.epochs) == (old.state, old.value, old.epochs)
    assert len(after.trials) >= len(before.trials)


@pytest.mark.fault(
    "kill -9 of the driver at 10 moments of one study",
    holds="exact budget, nothing RUNNING, no parameters twice, every epoch of a finished trial once, digests, no "
    "process left, retries resume from the last checkpoint",
)
def test_a_study_whose_driver_is_killed_ten_times_ends_as_if_it_had_not_been(
    new_study: Callable[..., Study], chance: random.Random, fact: Callable[[str], None]
):
    study = new_study(**_SETTINGS)
    order = shuffled(chance)
    for moment in order:
        began = time.monotonic()
        before = study.facts()
        driver = kill_at(moment, study, chance)
        if moment in _OWN_CLUSTER:
            driver.assert_nothing_left(timeout_s=12)  # Ray's own agents would stay for a minute
        assert_nothing_forgotten(before, study.facts())
        print(f"killed {moment}: {study.facts().states}, {time.monotonic() - began:.0f} s")
    before = study.facts()
    study.finish()
    facts = study.facts()
    assert_nothing_forgotten(before, facts)
    assert_finished(facts, study.runs, budget=8, epochs=12)
    assert {trial.notes["pruned_epoch"] for trial in facts.trials if trial.state == "PRUNED"} <= _RUNGS
    saved = assert_went_on(facts)  # none, if the order gave up what was interrupted a third time
    for trial in facts.failed():
        assert trial.notes["fail_reason"].startswith("its driver ended without a word"), trial.notes
    fact(f"{facts.summary()}; {saved} epochs taken over")


@pytest.mark.fault("none: the same study in peace", holds="the same budget, the same rungs")
def test_the_same_study_in_peace_has_the_same_budget_and_rungs(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(**_SETTINGS)
    study.finish()
    facts = study.facts()
    assert_finished(facts, study.runs, budget=8, epochs=12)
    assert len(facts.trials) == 8
    assert {trial.notes["pruned_epoch"] for trial in facts.trials if trial.state == "PRUNED"} <= _RUNGS
    fact(facts.summary())
