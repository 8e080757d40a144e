"""A Ray cluster of three nodes on this machine, to be destroyed."""

import os
from pathlib import Path

import psutil
from chaos_harness import PLAN
from forks import Forks, forked_instead

__all__ = ["Nodes", "processes_that_train", "trains"]


class Nodes:
    """A cluster of three raylets with one CPU each, to be destroyed.

    Args:
        plan: Of the faults that its workers follow.
        forks: What they are forked from.
    """

    def __init__(self, plan: Path, forks: Forks) -> None:
        from ray.cluster_utils import Cluster

        import searcher.orchestration.cluster.ray_cluster  # noqa: F401  sets what ray reads when it is imported

        self.plan = plan
        environment = dict(os.environ)
        os.environ |= {PLAN: str(plan), "OMP_NUM_THREADS": "1"} | forks.variables()
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
                "include_log_monitor": False,
                "no_monitor": True,
            },
        )
        self._others = [self._cluster.add_node(num_cpus=1) for _ in range(2)]
        os.environ.clear()
        os.environ.update(environment)
        self.address = self._cluster.address

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train on the nodes beside the head."""
        return [worker for node in self._others for worker in _workers(node)]

    def kill_one(self) -> list[psutil.Process]:
        """Kill a node's raylet outright; return the processes that trained there."""
        node = self._others.pop()
        workers = _workers(node)
        self._cluster.remove_node(node, allow_graceful=False)
        return workers

    def close(self) -> None:
        """Stop what is left."""
        self._cluster.shutdown()


def processes_that_train(parent: psutil.Process) -> list[psutil.Process]:
    """Return the descendants of `parent` that train; one that ends meanwhile is not among them."""
    return [process for process in map(forked_instead, parent.children(recursive=True)) if trains(process)]


def trains(process: psutil.Process) -> bool:
    """Return whether a process is a worker of a trial."""
    try:
        return "TrialTrainable" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _workers(node) -> list[psutil.Process]:
    [raylet] = node.all_processes["raylet"]
    return processes_that_train(psutil.Process(raylet.process.pid))
