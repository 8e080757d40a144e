"""Each name of Ray's that it does not document, what we need it for, and that this Ray has it.

Where a test needs a cluster, the session's is taken.
"""

import inspect
import os
import re
import signal
from collections.abc import Iterator

import grpc
import pytest

from searcher.orchestration import ray_internals as internals

import ray  # isort: skip  # after our room, which sets what ray reads when it is imported


@pytest.fixture
def joined(ray_nodes) -> Iterator[str]:
    """This process as a driver on the session's cluster; the address of its head."""
    ray.init(address=ray_nodes.address, ignore_reinit_error=True, log_to_driver=False)
    yield ray_nodes.address
    ray.shutdown()


def test_head_address_is_what_a_person_typed_in_rays_form():
    assert internals.head_address("127.0.0.1:6379") == "127.0.0.1:6379"


def test_version_of_head_is_one_call_that_ends_where_nobody_listens():
    with pytest.raises(grpc.RpcError):
        internals.version_of_head("127.0.0.1:1", timeout_s=0.5)


def test_version_of_head_is_the_clusters(ray_nodes):
    assert internals.version_of_head(ray_nodes.address, timeout_s=30.0) == ray.__version__


def test_dashboard_of_a_cluster_is_host_and_port_or_none_at_once(ray_nodes):
    """Ray 2.60 names one although it was told to start none: whoever talks to it gets no answer."""
    found = internals.dashboard_of(ray_nodes.address)
    assert found is None or re.fullmatch(r"[\w.-]+:\d+", found)


def test_node_groups_are_none_where_no_autoscaler_has_told_of_them(joined):
    assert list(internals.node_groups()) == []


def test_keys_are_written_over_read_and_forgotten(joined):
    for value in (b"one", b"two"):
        internals.write_key(b"key", value, namespace=b"test")
        assert internals.read_key(b"key", namespace=b"test") == value
    assert internals.read_key(b"key", namespace=b"another") is None
    internals.forget_key(b"key", namespace=b"test")
    assert internals.read_key(b"key", namespace=b"test") is None


@pytest.mark.parametrize(("in_new_workers", "variables"), [(False, set()), (True, {"PL_DISABLE_FORK"})])
def test_actors_begin_without_the_keys_of_aws_and_in_a_worker_that_is_up_unless_it_must_be_new(
    monkeypatch, in_new_workers, variables
):
    """Ray puts variables of an actor's own into a command line, and only new workers have them."""
    from ray.tune.execution.class_cache import _ActorClassCache

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-object-key")

    def given() -> dict[str, str]:
        options = _ActorClassCache().get(type("Trainable", (), {}))._default_options
        return dict(options["runtime_env"].get("env_vars", {}))

    with internals.actors_begin(in_new_workers=in_new_workers):
        assert given().keys() == variables
    assert given().keys() >= {"AWS_SECRET_ACCESS_KEY", "PL_DISABLE_FORK"}, "Ray Tune gives them by itself"


def test_kill_worker_ends_a_process_that_stands_still(joined):
    @ray.remote(num_cpus=0)
    class Worker:
        def process(self) -> int:
            return os.getpid()

    worker = Worker.remote()
    process = ray.get(worker.process.remote())
    os.kill(process, signal.SIGSTOP)
    pending = worker.process.remote()
    internals.kill_worker(worker._actor_id.hex())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(pending, timeout=60)
    os.kill(process, signal.SIGCONT)


def test_start_local_has_rays_arguments_for_folder_and_address():
    """What they do is seen in `test_cluster.py` and `test_scratch.py`."""
    source = inspect.getsource(ray.init)
    for name in ("_node_ip_address", "_temp_dir"):
        assert f'"{name}"' in source


def test_loopback_only_keeps_the_address_that_ray_is_given_and_tells_its_processes():
    from ray._private import ray_constants, services

    before = dict(os.environ), ray_constants.ENABLE_RAY_CLUSTER
    with internals.loopback_only():
        assert services.resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1"
        assert not ray_constants.env_bool(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, True)
    assert (dict(os.environ), ray_constants.ENABLE_RAY_CLUSTER) == before


def test_the_job_variable_is_the_one_that_a_jobs_driver_is_started_with():
    from ray.dashboard.modules.job import job_supervisor

    assert internals.JOB_CONFIG_VARIABLE in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in inspect.getsource(
        job_supervisor
    )
    assert internals.JOB_CONFIG_VARIABLE == "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_task_failures_turned_puts_itself_between_a_task_and_ray_tune():
    """With a real task it is in `test_lost_workers.py`."""
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask

    original = RayActorManager._actor_task_failed
    assert list(inspect.signature(original).parameters) == ["self", "tracked_actor_task", "exception"]
    assert "_live_actors_to_ray_actors_resources" in inspect.getsource(RayActorManager.__init__)
    assert "_tracked_actor" in inspect.getsource(TrackedActorTask.__init__)
    with internals.task_failures_turned(lambda _, error: error):
        assert RayActorManager._actor_task_failed is not original
    assert RayActorManager._actor_task_failed is original
