"""A real Ray cluster of three nodes on this machine, and a way to launch the tiny study on it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_study import RecordingListener

from searcher.ledger.database import Database
from searcher.study.spec import StudySpec


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[object]:
    """Three raylets on this machine, one trial's worth of CPU each; the cluster's own handle."""
    from ray.cluster_utils import Cluster

    import searcher.orchestration.cluster  # noqa: F401  sets what ray reads when it is imported

    environment = dict(os.environ)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def launch_tiny(ray_nodes, tmp_path: Path, cache_dir: Path):
    """A function that launches a study on the cluster and returns result, listener and the open database's path."""
    from searcher.orchestration.driver import launch
    from searcher.training.dataset import DataRequest

    def run(
        spec: StudySpec, listener: RecordingListener | None = None, *, address: str | None = ray_nodes.address
    ):
        listener = listener or RecordingListener()
        data = DataRequest(None, str(cache_dir), spec.trial_config({}).data)
        with Database.open(str(tmp_path / "s.db"), create=True) as database:
            result = launch(
                spec,
                database=database,
                data=data,
                store=data.prepare(),
                storage_root=tmp_path / "runs",
                listener=listener,
                address=address,
            )
            return result, listener, database.trials(spec.name)

    return run
