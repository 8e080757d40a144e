"""The Ray cluster of a launch: one of its own on loopback, or an existing one."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Before ray is imported, which reads them once. Nothing phones home; the terminal belongs to us, not to Ray.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"

import ray
from ray._private import ray_constants

from searcher.exceptions import UserError
from searcher.orchestration.scratch import scratch_folder
from searcher.study.spec import ResourcesSection

__all__ = [
    "TrialResources",
    "can_place",
    "check_reachable",
    "num_concurrent",
    "ray_cluster",
    "trial_resources",
]

_OBJECT_STORE_BYTES = 128 * 2**20
"""Trials exchange a few numbers; images never go through Ray's object store."""


@dataclass(frozen=True)
class TrialResources:
    """What Ray reserves for one trial, or what a node has."""

    cpus: float
    gpus: float

    def to_ray(self) -> dict[str, float]:
        """Return Ray's own names; no GPU entry when none is needed."""
        return {"cpu": self.cpus} | ({"gpu": self.gpus} if self.gpus else {})

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Join the cluster at `address`, or start one on this machine and stop it at the end.

    A cluster of our own listens on loopback only, keeps its files in a scratch folder, and has no dashboard.

    Raises:
        UserError: There is no cluster at the address.
    """
    if address is not None:
        check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"--address {address}: must be a running Ray cluster: {reason}") from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    with scratch_folder() as scratch:
        try:
            with _loopback_only():
                ray.init(
                    address="local",
                    num_cpus=len(os.sched_getaffinity(0))
                    if hasattr(os, "sched_getaffinity")
                    else os.cpu_count(),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(scratch),
                )
                yield
        finally:
            ray.shutdown()


def check_reachable(address: str | None) -> None:
    """Knock at HOST:PORT: Ray itself tries for minutes, and then ends the process.

    Raises:
        UserError: Nobody answers, or it is not the address of a cluster's head.
    """
    if address is None:
        return
    if "://" in address:
        raise UserError(
            f"--address {address}: must be the head's HOST:PORT, got a client address; the driver must run on a node "
            "of the cluster, so that no connection to the database travels"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"--address {address}: must be a running Ray cluster: {error.strerror or error}; "
            "start one with `ray start --head`, or leave the option out"
        ) from error


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Make Ray keep the loopback address that it is given.

    Ray 2.60 turns 127.0.0.1 into the machine's outward address and listens on all of them, unless it thinks that it
    runs on Windows or macOS, where it supports no clusters. Its own switch for that is read when ray is imported,
    too early for a process that may also join a cluster; so it is set here, for this process and its children.
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


def trial_resources(wanted: ResourcesSection) -> TrialResources:
    """Return what one trial reserves on the cluster that is running.

    Raises:
        UserError: No node has as much, so that the first trial would wait for ever.
    """
    nodes = _nodes()
    most_gpus = max((node.gpus for node in nodes), default=0.0)
    gpus = float(min(1.0, most_gpus)) if wanted.gpus == "auto" else float(wanted.gpus)
    resources = TrialResources(wanted.cpus, gpus)
    if not can_place(resources):
        raise UserError(
            f"resources: one node must offer what a trial needs, got cpus={wanted.cpus:g} gpus={gpus:g} where the "
            f"nodes have {', '.join(map(str, nodes))}; lower them with --set resources.cpus=N --set resources.gpus=N"
        )
    return resources


def can_place(resources: TrialResources) -> bool:
    """Return whether some node of the cluster, once it is idle, could run a trial."""
    return any(node.cpus >= resources.cpus and node.gpus >= resources.gpus for node in _nodes())


def num_concurrent(wanted: ResourcesSection, resources: TrialResources) -> int:
    """Return how many trials can run at a time on the cluster that is running."""
    fitting = 0
    for node in _nodes():
        by_gpu = node.gpus / resources.gpus if resources.gpus else float("inf")
        fitting += int(min(node.cpus / resources.cpus, by_gpu))
    return min(fitting, wanted.max_concurrent or fitting)


def _nodes() -> list[TrialResources]:
    """Return what each node that is alive has."""
    offered = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [TrialResources(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in offered]
