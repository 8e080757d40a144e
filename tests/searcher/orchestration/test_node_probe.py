"""Every node of a cluster is asked for the shared folder and the same data before the first trial."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_study import tiny

from searcher.exceptions import NodeError, UserError
from searcher.orchestration.cluster import node_probe
from searcher.orchestration.cluster.code_digest import code_digest
from searcher.orchestration.cluster.node_probe import check_code, check_nodes, check_storage, mark_storage
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import TrialResources
from searcher.orchestration.trials.messages import TrialJob
from searcher.orchestration.trials.trainable import TrialTrainable
from searcher.plugins import PluginError, plugin_sources
from searcher.study.layout import trial_folder
from searcher.training.dataset import DataRequest


@pytest.fixture
def data(tmp_path: Path) -> DataRequest:
    return DataRequest(None, str(tmp_path / "cache"), tiny().trial_config({}).data)


@pytest.fixture
def job(data: DataRequest, monkeypatch):
    """A function that makes the job of a trial, whose node is not given any time to mount or fix something."""
    monkeypatch.setattr(node_probe, "_MOUNTED_WITHIN_S", 0.0)

    def make(root: Path, storage_mark: str | None = None, code_digest: str | None = None) -> TrialJob:
        return TrialJob(
            number=0,
            config={},
            objective="loss",
            data=data,
            data_fingerprint="",
            storage_root=str(root),
            run_dir=trial_folder("tiny", 0),
            storage_mark=storage_mark,
            code_digest=code_digest,
        )

    return make


@pytest.fixture
def check(ray_nodes, data: DataRequest, tmp_path: Path):
    """A function that checks the cluster's nodes for the data and the storage root."""
    said: list[str] = []

    def run() -> list[str]:
        with ray_cluster(ray_nodes.address):
            check_nodes(
                TrialResources(1, 0),
                storage_root=tmp_path / "runs",
                data=data,
                fingerprint=data.prepare().fingerprint,
                say=said.append,
            )
        return said

    return run


def test_nodes_that_share_the_folder_pass_and_nothing_of_it_stays(check, tmp_path):
    assert check() == []
    assert not (tmp_path / "runs").exists()


def test_a_trial_on_a_node_that_came_later_without_the_folder_fails_with_the_reason(job, tmp_path):
    mark = mark_storage(tmp_path / "runs", "tiny")
    check_storage(job(tmp_path / "runs", mark))
    check_storage(job(tmp_path / "elsewhere", None))
    shutil.copytree(tmp_path / "runs", tmp_path / "a copy")
    newer = mark_storage(tmp_path / "runs", "tiny")
    check_storage(job(tmp_path / "runs", newer))
    for root in (tmp_path / "a copy", tmp_path / "missing"):
        with pytest.raises(
            NodeError, match="must be the same folder on every node, got one without this launch's"
        ):
            check_storage(job(root, newer))


def test_nodes_with_another_revision_are_refused_with_both(check, monkeypatch):
    monkeypatch.setattr(
        node_probe, "code_digest", lambda _plugins=(): "0" * 64
    )  # here: the driver's is another than the nodes'
    with pytest.raises(UserError) as caught:
        check()
    assert str(caught.value).splitlines() == 3 * [
        f"node {socket.gethostname()} (127.0.0.1): must have the driver's code, 000000000000, "
        f"got {code_digest()[:12]}; install the same revision there"
    ]


def test_a_trial_on_a_node_that_came_later_with_another_revision_fails_with_both(job, tmp_path):
    check_code(job(tmp_path, code_digest=code_digest()))
    check_code(job(tmp_path))
    worker = TrialTrainable({"job": job(tmp_path, code_digest="0" * 64), "num_threads": 1})
    failure = worker.step()["message"].failure
    assert failure.cause == "node"
    assert failure.reason == (
        f"node {socket.gethostname()}: must have the driver's code, 000000000000, got {code_digest()[:12]}; "
        "install the same revision there"
    )


def test_a_database_in_a_nodes_environment_is_said(ray_nodes, check, monkeypatch):
    monkeypatch.setenv("SEARCHER_DB", "postgresql://u@h/x")
    monkeypatch.setenv("PGPASSWORD", "s3cret-pw")
    node = ray_nodes.add_node(num_cpus=1)
    monkeypatch.delenv("SEARCHER_DB")
    monkeypatch.delenv("PGPASSWORD")
    try:
        said, also = check()
    finally:
        ray_nodes.remove_node(node)
    assert said.startswith(f"SEARCHER_DB is in the environment of {socket.gethostname()} (127.0.0.1), where ")
    assert also == said.replace("SEARCHER_DB", "PGPASSWORD")
    assert "postgresql" not in said


def test_a_worker_imports_the_plugins_before_anything_else(job, tmp_path, monkeypatch):
    plugin = tmp_path / "of_a_worker.py"
    plugin.write_text("WORKER = 1")
    check_code(replace(job(tmp_path), plugins=(str(plugin),)))
    assert str(plugin) in plugin_sources()

    monkeypatch.setattr(node_probe, "_MOUNTED_WITHIN_S", 0.0)
    lacks = (str(tmp_path / "none.py"),)
    with pytest.raises(PluginError, match="which is no file"):
        check_code(replace(job(tmp_path), plugins=lacks))
    with pytest.raises(NodeError, match=r"^node .*: plugins: must be files, .* which is no file"):
        check_code(replace(job(tmp_path, code_digest="0" * 64), plugins=lacks))
