"""What runs a trial is killed: its worker's process, or the whole node."""

from collections.abc import Callable

import psutil
import pytest
from chaos_facts import assert_finished, assert_went_on
from chaos_harness import Driver, Study, fault, wait_until
from chaos_nodes import Nodes


def start_and_halt(study: Study) -> Driver:
    """Start three trials; return when each has two epochs in the database and stands before its third."""
    halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=3)
    driver = study.start(faults=[halt])
    wait_until("three trials have two epochs", lambda: driver.hanging("third") == 3, driver=driver)
    wait_until(
        "their checkpoints are recorded",
        lambda: [t.checkpoints.get("last", {}).get("epoch") for t in study.facts().trials] == [2, 2, 2],
        driver=driver,
    )
    return driver


@pytest.mark.fault(
    "kill -9 of a trial's worker process",
    holds="the trial resumes from its last checkpoint; FAIL and the retry are recorded",
)
@pytest.mark.fault(
    "a node of a 3-node Ray cluster killed (kill -9 of its raylet)",
    holds="its trial resumes elsewhere from its last checkpoint; nothing waits for ever",
)
def test_the_trials_of_a_killed_worker_and_of_a_killed_node_go_on(
    new_study: Callable[..., Study], nodes: Nodes, fact: Callable[[str], None]
):
    study = new_study(
        address=nodes.address, plan=nodes.plan, trials=3, epochs=6, grace_epochs=3, max_concurrent=3
    )
    driver = start_and_halt(study)
    with_their_node = nodes.kill_one()
    [alone] = nodes.workers()
    alone.kill()
    assert len(with_their_node) == 1
    assert not psutil.wait_procs(with_their_node, timeout=30)[1], "a worker ends with its node"
    driver.let_go("third")
    driver.ends_with(0)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=3, epochs=6)
    assert facts.states["FAIL"] == 2
    for failed in facts.failed():
        assert failed.notes["fail_reason"].startswith("its worker was lost"), failed.notes
        assert len(failed.epochs) == 2
        [retry] = facts.retries_of(failed.number)
        assert retry.is_done
        assert retry.params == failed.params
        assert f"trial {retry.number} goes on after epoch 2" in driver.output
    assert assert_went_on(facts) == 4
    fact(facts.summary())
