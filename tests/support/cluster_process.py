"""A Ray cluster in processes of its own, as a machine room has it: three nodes, token mode, dashboard, job API.

    python cluster_process.py FOLDER

prints one line of JSON when it is up, and is gone with its standard input. The nodes' environment is this process's:
whoever starts it decides about the token. Everything listens on loopback.
"""

import json
import sys
from pathlib import Path

import searcher.orchestration.cluster  # noqa: F401  sets what ray reads when it is imported

from ray.cluster_utils import Cluster  # isort: skip


def main(folder: Path) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": 0,
            "temp_dir": str(folder),
            "object_store_memory": 100 * 2**20,
        },
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    print(json.dumps({"address": cluster.address, "dashboard": cluster.head_node.webui_url}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
