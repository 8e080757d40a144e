"""A node of a Ray cluster that sees other folders than the rest, on the same machine: with mounts of its own.

    python node_apart.py HOST:PORT

joins the cluster with one CPU, prints a line when it is there, and is gone with its standard input.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["can_set_apart", "node_apart"]


def can_set_apart() -> bool:
    """Whether this process may have mounts of its own: it needs root, and Linux."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and subprocess.run(["unshare", "--mount", "true"]).returncode == 0


@contextmanager
def node_apart(address: str, instead: Mapping[Path, Path]) -> Iterator[None]:
    """Let a node join for a while to which each of the folders is another one."""
    mounts = [shlex.join(["mount", "--bind", str(other), str(folder)]) for folder, other in instead.items()]
    node = shlex.join(["exec", sys.executable, __file__, address])
    script = " && ".join([*mounts, node])
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        yield
    finally:
        process.communicate()


def _join(address: str) -> None:
    import searcher.orchestration  # noqa: F401  sets what ray reads when it is imported

    from ray._private.node import Node  # isort: skip
    from ray._private.parameter import RayParams  # isort: skip

    params = RayParams(
        gcs_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=1,
        num_gpus=0,
        object_store_memory=100 * 2**20,
        min_worker_port=0,
        max_worker_port=0,
        include_log_monitor=False,
    )
    node = Node(params, head=False, shutdown_at_exit=True)
    print("joined", flush=True)
    sys.stdin.read()
    node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)


if __name__ == "__main__":
    _join(sys.argv[1])
