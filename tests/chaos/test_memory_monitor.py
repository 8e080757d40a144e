"""Another program takes the machine's memory: Ray's memory monitor kills a worker in mid-training."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from chaos_facts import assert_finished
from chaos_harness import Driver, Study, fault, wait_until

_ROOM_BYTES = 4 * 10**9
"""What may be taken beyond what is in use now before Ray begins to kill."""
_HOG = "import numpy, sys; taken = numpy.ones({}, numpy.uint8); sys.stdin.read()"


@contextmanager
def memory_taken(num_bytes: int) -> Iterator[None]:
    """Take main memory while the body runs."""
    hog = subprocess.Popen([sys.executable, "-c", _HOG.format(num_bytes)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


def failed(study: Study, driver: Driver) -> bool:
    """Return whether a trial was killed."""
    assert driver.process.poll() is None, driver.output
    return bool(study.facts().failed())


@pytest.mark.fault(
    "Ray's memory monitor kills a worker while another program takes the memory",
    holds="that trial is FAIL and tried again with its batch in parts; the trial beside it continues; exact budget",
)
def test_a_worker_that_rays_memory_monitor_kills_costs_no_other_trial(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    memory = psutil.virtual_memory()
    if memory.available < 3 * _ROOM_BYTES:
        pytest.skip(f"needs {3 * _ROOM_BYTES / 1e9:.0f} GB of free memory")
    threshold = (memory.total - memory.available + _ROOM_BYTES) / memory.total
    study = new_study(trials=2, epochs=4, grace_epochs=4, max_concurrent=2)
    halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=2)
    driver = study.start(
        faults=[halt], own_cluster=True, environment={"RAY_memory_usage_threshold": f"{threshold:.3f}"}
    )
    wait_until("both trials have two epochs", lambda: driver.hanging("third") == 2, driver=driver)
    with memory_taken(3 * _ROOM_BYTES // 2):
        wait_until("one is killed", lambda: failed(study, driver), driver=driver)
    driver.let_go("third")
    driver.ends_with(0, timeout_s=180)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=2, epochs=4)
    for trial in facts.failed():
        assert trial.notes["fail_reason"].startswith(
            "its worker was lost: out of memory: Ray killed it, as its node"
        )
        [retry] = facts.retries_of(trial.number)
        assert retry.notes["micro_batches"] == 2
    fact(facts.summary())
