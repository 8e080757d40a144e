"""A way to launch the tiny study on the session's Ray cluster."""

from pathlib import Path

import pytest
from tiny_study import RecordingListener

from searcher.ledger.database import Database
from searcher.study.spec import StudySpec


@pytest.fixture
def launch_tiny(ray_nodes, tmp_path: Path, cache_dir: Path):
    """A function that launches a study on the cluster and returns result, listener and the open database's path."""
    from searcher.orchestration.driver import launch
    from searcher.training.dataset import DataRequest

    def run(
        spec: StudySpec,
        listener: RecordingListener | None = None,
        *,
        address: str | None = ray_nodes.address,
        storage_root: Path = tmp_path / "runs",
        data_folder: str | None = None,
    ):
        listener = listener or RecordingListener()
        data = DataRequest(data_folder, str(cache_dir), spec.trial_config({}).data)
        result = launch(
            spec,
            database=str(tmp_path / "s.db"),
            data=data,
            store=data.prepare(),
            storage_root=storage_root,
            listener=listener,
            address=address,
        )
        with Database.open(str(tmp_path / "s.db")) as database:
            return result, listener, database.trials(spec.name)

    return run
