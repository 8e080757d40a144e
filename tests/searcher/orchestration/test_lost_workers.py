"""Whatever Ray raises about one worker is its trial's failure, with one line that names the cause."""

import os
import re
import signal
import traceback

import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution.resources.fixed import FixedResourceManager
from ray.air.execution.resources.request import ResourceRequest
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError

from searcher.orchestration.trials.lost_workers import cause_of, each_loss_is_its_trials
from searcher.orchestration.trials.summary_of_failures import summary_of_failures

# As Ray 2.60 writes them.
_SETUP = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::TrialTrainable.__init__()\x1b[39m "
    "(pid={pid}, ip=192.0.2.2, actor_id={actor}, repr=<searcher.TrialTrainable object at 0x7f76b9d927d0>)\n"
    "           ^^^^^^^^^^^^^^^^^^^^\n"
    '  File "/somewhere/ray/tune/trainable.py", line 11, in __init__\n'
    '    if fail: raise ValueError("cannot do this\\nsecond line")\n'
    "             ^^^^^^^^^^^^^^^^^^^^^^\n"
    "ValueError: cannot do this\nsecond line"
)
_KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: TrialTrainable\n\tactor_id: {actor}\n"
    "\tpid: {pid}\n\tnamespace: 76d98f28-269e-452a-9184-b8a8cbbeb74d\n\tip: 192.0.2.2\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed."
)
_MEMORY = (
    "OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. \nMemory on the node (IP: "
    "192.0.2.2, ID: {actor}) was 29.37GB used / 30.60GB limit (0.959687)\nOOM kill reason: threshold\nRay killed 1 "
    "worker(s) based on the killing policy\nTop 10 memory users: PID MEM(GB) COMMAND\n{pid} 2.34 ray::TrialTrainable"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_SETUP, "ValueError: cannot do this"),
        (
            _KILLED,
            "its process ended: Worker unexpectedly exits with a connection error code 2. End of file.",
        ),
        (_MEMORY, "out of memory: Ray killed it, as its node had 29.37 of 30.60 GB in use"),
        (
            "The actor died unexpectedly before finishing this task.\n\tpid: 3\n"
            "The actor is dead because it was killed by `ray.kill`.",
            "The actor is dead because it was killed by `ray.kill`.",
        ),
        ("\x1b[36mray::TrialTrainable.train()\x1b[39m\n  File x\nKeyError: 'a'\n", "KeyError: 'a'"),
        ("", "no reason given"),
    ],
)
def test_the_cause_is_one_line_without_colours_and_equal_causes_count_as_one(error, expected):
    about = [{"pid": 100 + n, "actor": f"{n:x}3422b258c942ccf169f5c2db01000000"} for n in range(5)]
    causes = [cause_of(error.format(**each)) for each in about]
    assert causes == [expected] * 5
    assert summary_of_failures([({}, f"its worker was lost: {cause}") for cause in causes]).startswith(
        f"each time: its worker was lost: {expected}"
    )


def test_identifiers_and_addresses_make_no_two_reasons_of_one():
    failures = [({}, f"node at 10.0.0.{n}, id {n}f3422b258c942cc: no room") for n in range(5)]
    assert summary_of_failures(failures).startswith("each time: node at 10.0.0.0")


@ray.remote(num_cpus=0)
class _Ends:
    """An actor that ends as it is told: while it is made, or later."""

    def __init__(self, at_once: bool) -> None:
        if at_once:
            raise ValueError(f"no room in folder {os.getpid()}")

    def work(self) -> None:
        """End as a process that somebody killed."""
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("at_once", "cause"),
    [
        (True, r"ValueError: no room in folder \d+"),
        (False, r"its process ended: Worker unexpectedly exits .*"),
    ],
)
def test_real_actors_that_end_for_the_same_reason_share_one_cause(ray_nodes, at_once, cause):
    """Ray's own words of this version, with colours, identifiers and process numbers that differ."""
    ray.init(address=ray_nodes.address, ignore_reinit_error=True, log_to_driver=False)
    errors = []
    for actor in [_Ends.remote(at_once) for _ in range(2)]:
        with pytest.raises(RayActorError) as caught:
            ray.get(actor.work.remote())
        errors.append(str(caught.value))  # as Ray Tune writes it into its error file
        with_traceback = "".join(traceback.format_exception(caught.value))
        assert cause_of(with_traceback) == cause_of(errors[-1])
    ray.shutdown()
    causes = [cause_of(error) for error in errors]
    assert errors[0] != errors[1]
    assert [bool(re.fullmatch(cause, each)) for each in causes] == [True, True], causes
    assert summary_of_failures([({}, f"its worker was lost: {each}") for each in causes]).startswith(
        "each time: "
    )


@ray.remote(num_cpus=0)
class _Raises:
    """An actor whose tasks fail in a way that Ray Tune has no case for."""

    def fail(self) -> None:
        """Do nothing: what is raised is put in its place."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Task was killed due to the node running low on memory."),
        ObjectLostError("01" * 28, None, "somewhere"),
        RuntimeError("something new"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_any_class_is_the_loss_of_one_actor(ray_nodes, monkeypatch, error):
    """The manager is Ray Tune's own, the actor a real one; the error is what a task's future raises."""
    ray.init(address=ray_nodes.address, ignore_reinit_error=True, log_to_driver=False)
    manager = RayActorManager(resource_manager=FixedResourceManager({"CPU": 2}))
    lost: list[Exception] = []
    actor = manager.add_actor(
        cls=_Raises.__ray_metadata__.modified_class,
        kwargs={},
        resource_request=ResourceRequest([{"CPU": 0.1}]),
        on_error=lambda _, error: lost.append(error),
    )
    while not manager.num_live_actors:
        manager.next(timeout=1)
    manager.next(timeout=10)
    original = ray.get

    def raises(reference: object, *args: object, **kwargs: object) -> object:
        original(reference, *args, **kwargs)
        raise error

    manager.schedule_actor_task(actor, "fail", on_error=lambda _, error: lost.append(error))
    monkeypatch.setattr("ray.get", raises)
    with each_loss_is_its_trials():
        while not lost:
            manager.next(timeout=1)
    monkeypatch.undo()
    assert all(isinstance(each, RayActorError) for each in lost)
    assert type(error).__name__ in str(lost[0])
    assert manager.num_live_actors == 0
    assert manager.is_actor_failed(actor)
    ray.shutdown()
