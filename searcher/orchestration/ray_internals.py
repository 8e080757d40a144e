"""All that we use of Ray beyond what it documents: the one place to look at when Ray changes.

Written for Ray 2.60. Every name here has a test of its own (`tests/searcher/orchestration/test_ray_internals.py`). It
explains the name's purpose and fails if a newer Ray lacks the name.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import ActorID
from ray._private import ray_constants, services, worker
from ray._private.grpc_utils import init_grpc_channel
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import state as cluster_state
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # made in Cython
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

__all__ = [
    "JOB_CONFIG_VARIABLE",
    "actors_begin",
    "dashboard_of",
    "forget_key",
    "head_address",
    "kill_worker",
    "loopback_only",
    "node_groups",
    "read_key",
    "start_local",
    "task_failures_turned",
    "version_of_head",
    "write_key",
]

JOB_CONFIG_VARIABLE = RAY_JOB_CONFIG_JSON_ENV_VAR
"""Variable with which Ray tells a job's driver which job it is."""

_LOOPBACK = "127.0.0.1"


# ---- the head of a cluster -------------------------------------------------------------------------------------


def head_address(address: str) -> str:
    """Return HOST:PORT of a cluster's head in Ray's own form, with `auto` resolved.

    Raises:
        ConnectionError, ValueError, OSError: There is no cluster at the address.
    """
    return str(services.canonicalize_bootstrap_address_or_die(address))


def version_of_head(address: str, *, timeout_s: float) -> str:
    """Return the Ray version of the cluster head that listens at HOST:PORT, with a single call.

    Raises:
        grpc.RpcError: Nothing answers at the address, or another server does.
        AuthenticationError, RuntimeError, OSError: The token or the certificates that the environment names are
            missing.
    """
    with init_grpc_channel(address, ray_constants.GLOBAL_GRPC_OPTIONS) as channel:
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        answer = head.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=timeout_s)
    return str(answer.ray_version)


def dashboard_of(head: str) -> str | None:
    """Return HOST:PORT of the dashboard of the cluster with a head; None if it has none.

    Ray's documented function would retry for 40 s without a dashboard.
    """
    client = GcsClient(address=head)
    where = client.internal_kv_get(
        ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD
    )
    return None if where is None else str(where.decode())


def node_groups() -> Sequence[Any]:
    """Return the groups of nodes that the cluster's autoscaler may start, if it has reported them to the cluster.

    Each has `name`, `resources` and `max_count`.
    """
    config = cluster_state.get_cluster_config()
    return [] if config is None else list(config.node_group_configs)


# ---- a cluster of our own --------------------------------------------------------------------------------------


def start_local(folder: Path, *, num_cpus: int | None, object_store_bytes: int, logging_level: int) -> None:
    """Start a local Ray cluster that writes into a folder, and join it. Use it inside `loopback_only`.

    Args:
        folder: Folder for Ray's sockets and logs.
        num_cpus: Number of CPU cores of the cluster; None for those of the machine.
        object_store_bytes: Size of Ray's object store in bytes.
        logging_level: Level of Ray's logger, as in `logging`.
    """
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging_level,
        object_store_memory=object_store_bytes,
        _node_ip_address=_LOOPBACK,
        _temp_dir=str(folder),
    )


@contextmanager
def loopback_only() -> Iterator[None]:
    """Context manager in which Ray uses the loopback address that it is given.

    Ray 2.60 would replace 127.0.0.1 by the machine's outward address and listen on all addresses, except on Windows and
    macOS, where it supports no clusters. Ray reads its own switch for that when it is imported, too early for a process
    that may also join a cluster. So this sets the switch for this process and its children.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, constant_before = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant_before
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# ---- workers -----------------------------------------------------------------------------------------------------


def kill_worker(actor: str) -> None:
    """Kill a worker with an actor id, also if its process is stopped, which takes seconds.

    Args:
        actor: Ray's id of the actor, in hexadecimal digits.

    Raises:
        RayError, ValueError: The worker has ended meanwhile.
    """
    worker.global_worker.core_worker.kill_actor(ActorID.from_hex(actor), True)


@contextmanager
def actors_begin(*, in_new_workers: bool) -> Iterator[None]:
    """Let Ray Tune's actors begin in workers that are up already, or each in a new one; without keys of AWS.

    Ray Tune 2.60 gives its actors a variable for PyTorch Lightning and the driver's keys of AWS. Only new workers have
    them. Each imports Ray twice, while those that Ray has started in advance lie idle. Ray also puts the variables into
    a command line, which everybody on the machine can read. Each node has its own keys, see `node_probe`.

    Args:
        in_new_workers: A GPU is chosen for a process before it uses one, so such a trial needs a new worker.
    """
    from ray.tune.execution import class_cache  # imports Ray Tune, seconds

    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = set()
    if not in_new_workers:
        class_cache.DEFAULT_ENV_VARS = {}
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = before


@contextmanager
def task_failures_turned(turn: Callable[[Any, Exception], Exception]) -> Iterator[None]:
    """Context manager in which Ray Tune receives another exception than the one with which an actor's task failed.

    Args:
        turn: Function called with the actor's handle (None if it is gone) and the exception; returns the exception for
            Ray Tune.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager  # imports Ray Tune, seconds

    original = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        live = self._live_actors_to_ray_actors_resources.get(tracked_actor_task._tracked_actor)
        turned = turn(None if live is None else live[0], exception)
        original(self, tracked_actor_task=tracked_actor_task, exception=turned)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original


# ---- the key-value store of the cluster's head -------------------------------------------------------------------


def write_key(key: bytes, value: bytes, *, namespace: bytes) -> None:
    """Write a value to the key-value store of the cluster's head, replacing an earlier one.

    Args:
        key: Key of the value.
        value: The value.
        namespace: Namespace of the key, which separates it from keys of other programs.

    Raises:
        RayError, RuntimeError, OSError: The head cannot be reached.
    """
    _internal_kv_put(key, value, overwrite=True, namespace=namespace)


def read_key(key: bytes, *, namespace: bytes) -> bytes | None:
    """Return the value of a key in the head's key-value store; None if there is none."""
    value: bytes | None = _internal_kv_get(key, namespace=namespace)
    return value


def forget_key(key: bytes, *, namespace: bytes) -> None:
    """Delete a key from the head's key-value store."""
    _internal_kv_del(key, namespace=namespace)
