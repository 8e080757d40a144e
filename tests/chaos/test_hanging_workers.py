"""Workers that do nothing any more: their process is stopped, or a step never ends."""

import signal
from collections.abc import Callable

import psutil
import pytest
from chaos_facts import assert_finished, assert_went_on
from chaos_harness import Study, fault, wait_until


@pytest.mark.fault(
    "a step that never ends, and a worker's process that is stopped (SIGSTOP)",
    holds="each is said, killed after resources.hang_timeout_s, FAIL with the reason, and resumes from its checkpoint",
)
def test_workers_that_hang_are_killed_and_their_trials_go_on(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(trials=2, epochs=5, grace_epochs=5, max_concurrent=2)
    hangs = fault("step", "searcher.training.learner:Learner.learn", "hang", call=6, times=1)
    stopped = fault("stopped", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=1)
    driver = study.start("--set", "resources.hang_timeout_s=8", faults=[hangs, stopped])
    wait_until("one stands before an epoch", lambda: driver.hanging("stopped"), driver=driver)
    plan = study.cluster_plan
    assert plan is not None
    [pid] = [int(path.suffix.rpartition("-")[2]) for path in plan.parent.glob(f"{plan.name}.hangs-stopped-*")]
    psutil.Process(pid).send_signal(signal.SIGSTOP)
    driver.ends_with(0, timeout_s=200)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=5)
    failed = facts.failed()
    assert failed
    for trial in failed:
        assert trial.notes["fail_reason"].startswith("its worker was lost: it hung: no sign of life for ")
        [retry] = facts.retries_of(trial.number)
        assert retry.is_done
    assert "its worker is taken for hanging and killed (resources.hang_timeout_s)" in driver.output
    assert assert_went_on(facts)
    fact(facts.summary())
