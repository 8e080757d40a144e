"""A cluster whose workers are still to come is waited for; one that is as large as it gets is not."""

import os

import pytest
import ray
from ray.autoscaler.v2.monitor import AutoscalerMonitor
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import AutoscalingState, PendingInstanceRequest
from tiny_study import RecordingListener, tiny

from searcher.exceptions import UserError
from searcher.orchestration.cluster import node_arrival
from searcher.orchestration.cluster.node_arrival import resources_once_there
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import TrialResources


@pytest.fixture(scope="module")
def starting():
    """A cluster whose head takes no trials, and nothing else yet; the cluster's own handle."""
    environment = dict(os.environ)
    head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def joined(starting):
    with ray_cluster(starting.address):
        yield starting


@pytest.fixture
def said():
    return []


def wanted(**values):
    return tiny(**{f"resources__{name}": value for name, value in values.items()}).resources


def test_a_launch_waits_until_it_is_interrupted_and_leaves_nothing(starting, launch_tiny, tmp_path):
    class CtrlC(RecordingListener):
        def info(self, message: str) -> None:
            assert "waiting up to 15 minutes" in message
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch_tiny(tiny(), CtrlC(), address=starting.address)
    assert not (tmp_path / "s.db").exists()
    assert not ray.is_initialized()


def test_a_head_alone_is_refused_when_no_worker_came(joined, said, monkeypatch):
    monkeypatch.setattr(node_arrival, "GIVE_UP_AFTER_S", 0.0)
    with pytest.raises(
        UserError, match=r"a node of the cluster must offer CPUs, got 1 without any, .*start its"
    ):
        resources_once_there(wanted(gpus=0.5), said.append)


def test_a_worker_that_comes_after_the_head_is_waited_for(joined, said):
    def say(line: str) -> None:
        said.append(line)
        joined.add_node(num_cpus=2)

    assert resources_once_there(wanted(cpus=2), say) == TrialResources(2, 0)
    assert said == [
        "no node that is up can run a trial, but none of them has CPUs, so the cluster's workers may still be "
        "starting; waiting up to 15 minutes for one that can"
    ]


def test_a_cluster_with_workers_that_do_not_fit_is_refused_at_once(joined, said):
    with pytest.raises(
        UserError, match="got 3 CPUs and 0 GPUs where the largest of the cluster's 2 nodes has 2"
    ):
        resources_once_there(wanted(cpus=3), said.append)
    assert said == []


def test_a_node_that_the_autoscaler_is_starting_is_waited_for(joined, said):
    def autoscaler_says(version: int, *launches: PendingInstanceRequest) -> None:
        state = AutoscalingState(autoscaler_state_version=version, pending_instance_requests=launches)
        client = ray._raylet.GcsClient(address=joined.address)
        AutoscalerMonitor._report_autoscaling_state(client, state)

    def say(line: str) -> None:
        said.append(line)
        joined.add_node(num_cpus=3)
        autoscaler_says(2)

    autoscaler_says(1, PendingInstanceRequest(ray_node_type_name="large", count=2))
    assert resources_once_there(wanted(cpus=3), say) == TrialResources(3, 0)
    [line] = said
    assert line.startswith(
        "no node that is up can run a trial, but the autoscaler is starting 2; waiting up to 15 "
    )
    with pytest.raises(UserError, match="got 4 CPUs"):
        resources_once_there(wanted(cpus=4), said.append)
