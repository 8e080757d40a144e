"""A Ray cluster in processes of its own, as a machine room has it: three nodes, token mode, dashboard, job API.

    python cluster_process.py FOLDER

prints one line of JSON when it is up, and is gone with its standard input. Everything listens on loopback.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MachineRoom", "machine_room"]

_STORE_BYTES = 100 * 2**20


@dataclass(frozen=True)
class MachineRoom:
    """A cluster that takes only those who know its token."""

    address: str
    dashboard: str
    token: str

    @property
    def known(self) -> dict[str, str]:
        """Environment of a process that knows the token."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


@contextmanager
def machine_room(environment: Mapping[str, str]) -> Iterator[MachineRoom]:
    """Start a cluster whose processes inherit the environment; stop it by its own handle."""
    token = secrets.token_hex(32)
    inherited = {**os.environ, **environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    inherited.pop("SEARCHER_DB", None)
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        tempfile.NamedTemporaryFile() as log,
    ):
        process = subprocess.Popen(
            [sys.executable, __file__, folder],
            env=inherited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            where = process.stdout.readline()
            assert where, Path(log.name).read_text()
            yield MachineRoom(**json.loads(where), token=token)
        finally:
            process.communicate()


def _serve(folder: Path) -> None:
    import searcher.orchestration  # noqa: F401  sets what ray reads when it is imported

    from ray.cluster_utils import Cluster  # isort: skip

    head = {"num_cpus": 1, "temp_dir": str(folder), "object_store_memory": _STORE_BYTES}
    # What workers print is in their logs; to bring it to drivers takes a fiftieth of a processor all the time.
    head |= {"include_log_monitor": False, "no_monitor": True}
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
    # Any free port: the default may be another cluster's on this machine, and without its agent a head takes no jobs.
    dashboard |= {"dashboard_agent_listen_port": None}
    # Where a new cluster writes its address, without making the folder: TMPDIR may be new.
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args=head | dashboard)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
    where = {"address": cluster.address, "dashboard": f"http://{cluster.head_node.webui_url}"}
    print(json.dumps(where), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
