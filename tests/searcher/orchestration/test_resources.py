"""A study that no node of a cluster can ever take is refused before anything waits."""

import pytest
from ray.core.generated import autoscaler_pb2
from tiny_study import tiny

from searcher.exceptions import StudyFileError, UserError
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import TrialResources, num_concurrent, trial_resources

GIB = 2**30


@pytest.fixture(scope="module")
def joined(ray_nodes):
    """Three nodes with one CPU each and no GPU."""
    with ray_cluster(ray_nodes.address):
        yield


@pytest.fixture
def max_count():
    return 2


@pytest.fixture
def gpu_nodes_may_come(joined, max_count):
    """What an autoscaler tells the cluster of the nodes that it may start."""
    from ray._raylet import GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, GCS_AUTOSCALER_STATE_NAMESPACE
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

    group = autoscaler_pb2.NodeGroupConfig(name="gpus", max_count=max_count, resources={"CPU": 8, "GPU": 1})
    config = autoscaler_pb2.ClusterConfig(node_group_configs=[group])
    key, namespace = GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(), GCS_AUTOSCALER_STATE_NAMESPACE.encode()
    _internal_kv_put(key, config.SerializeToString(), namespace=namespace)
    yield
    _internal_kv_del(key, namespace=namespace)


def resources(**wanted):
    return tiny(**{f"resources__{name}": value for name, value in wanted.items()}).resources


def test_what_a_node_has_is_granted(joined):
    assert trial_resources(resources()) == TrialResources(1, 0, 0)
    wanted = resources(cpus=0.5, memory_gib=0.25, max_concurrent=0)
    granted = trial_resources(wanted)
    assert granted == TrialResources(0.5, 0, GIB // 4)
    assert granted.to_ray() == {"cpu": 0.5, "memory": GIB / 4}
    assert num_concurrent(wanted, granted) == 6, "two on each of three nodes"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            {"cpus": 2},
            r"got 2 CPUs and 0 GPUs where the largest of the cluster's 3 nodes has 1 CPUs, 0 GPUs and ",
        ),
        ({"memory_gib": 1e6}, r"got 1 CPUs, 0 GPUs and 1000000\.0 GiB of memory where the largest of"),
        ({"gpus": 0.5}, r"resources\.gpus: must be 0 where no node has a GPU, got 0\.5"),
    ],
)
def test_what_no_node_has_is_refused_with_the_largest_offer(joined, wanted, said):
    with pytest.raises(UserError, match=said) as caught:
        trial_resources(resources(**wanted))
    assert "\n" not in str(caught.value)


def test_nodes_that_the_autoscaler_may_start_count(gpu_nodes_may_come):
    half = resources(cpus=4, gpus=0.5, max_concurrent=0)
    assert trial_resources(half) == TrialResources(4, 0.5, 0)
    assert num_concurrent(half, trial_resources(half)) == 4, "two on each of two nodes"
    assert trial_resources(resources()).gpus == 1
    with pytest.raises(UserError, match=r"where the largest of the cluster's 3 nodes has 8 CPUs and 1 GPUs"):
        trial_resources(resources(cpus=16, gpus=1))


@pytest.mark.parametrize("max_count", [-1])
def test_a_group_of_any_number_of_nodes_counts(gpu_nodes_may_come):
    wanted = resources(cpus=4, gpus=0.5)
    assert trial_resources(wanted) == TrialResources(4, 0.5, 0)
    assert num_concurrent(resources(max_concurrent=0), TrialResources(4, 0.5, 0)) > 10**6
    assert num_concurrent(resources(max_concurrent=7), TrialResources(4, 0.5, 0)) == 7


@pytest.mark.parametrize("max_count", [0])
def test_a_group_that_may_have_no_node_does_not(gpu_nodes_may_come):
    with pytest.raises(UserError, match=r"resources\.gpus: must be 0 where no node has a GPU"):
        trial_resources(resources(gpus=1))


@pytest.mark.parametrize(
    ("has", "wants", "fitting"),
    [
        ((8, 2, 0), (1, 0.25, 0), 8),
        ((8, 2, GIB), (1, 0.5, GIB), 1),
        ((64, 8, 0), (1, 0.6, 0), 8),  # what 8 cards have left makes no more of it
        ((64, 8, 0), (1, 0.4, 0), 16),
        ((64, 8, 0), (1, 0.3333, 0), 24),
        ((64, 7, 0), (1, 2, 0), 3),
        ((64, 0, 0), (1, 0.5, 0), 0),
        ((0.3, 0, 0), (0.1, 0, 0), 3),
    ],
)
def test_several_trials_share_a_node(has, wants, fitting):
    assert TrialResources(*has).times(TrialResources(*wants)) == fitting


@pytest.mark.parametrize("gpus", [1.5, -1])
def test_gpus_are_a_fraction_or_whole(gpus):
    with pytest.raises(
        StudyFileError, match="gpus must be a fraction up to 1 or a whole number, 1024 at most, got"
    ):
        resources(gpus=gpus)
