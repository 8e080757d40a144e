"""A part of a GPU that is too small for the study's largest trial is refused before the first one, on a real node."""

import pytest
import ray
from tiny_study import tiny

from searcher.exceptions import UserError
from searcher.orchestration.cluster import gpu_probe
from searcher.orchestration.cluster.gpu_probe import check_gpu_share
from searcher.orchestration.cluster.ray_cluster import ray_cluster
from searcher.orchestration.cluster.resources import TrialResources
from searcher.training.dataset import DataRequest


@pytest.fixture(scope="module")
def with_a_gpu(ray_nodes):
    """The cluster with a fourth node that says it has a GPU; torch finds none there."""
    node = ray_nodes.add_node(num_cpus=1, num_gpus=1)
    with ray_cluster(ray_nodes.address):
        yield
    ray_nodes.remove_node(node)


@pytest.fixture
def check(with_a_gpu, cache_dir):
    """A function that checks a part of a GPU; main memory is measured in its place. Returns what was said."""
    spec = tiny(optimizer__name="sgd")
    data = DataRequest(None, str(cache_dir), spec.trial_config({}).data)
    fingerprint = data.prepare().fingerprint

    def run(gpus: float, device: str | None) -> list[str]:
        said: list[str] = []
        resources = TrialResources(1, gpus)
        check_gpu_share(spec, resources, data=data, fingerprint=fingerprint, say=said.append, device=device)
        return said

    return run


def test_a_part_that_is_too_small_is_refused_with_one_that_fits(check):
    with pytest.raises(UserError) as error:
        check(0.001, "cpu")
    message = str(error.value)
    assert "\n" not in message
    assert "resources.gpus: must be at least 0." in message
    assert "got 0.001: " in message
    assert " GiB of CPU; use --set resources.gpus=0." in message
    least = float(message.partition("at least ")[2].partition(",")[0])
    assert 0.001 < least <= float(message.rpartition("resources.gpus=")[2]) <= 1


def test_a_node_where_torch_finds_no_gpu_is_said(check):
    assert any("torch finds no GPU there" in line for line in check(0.5, None))


def test_gpus_that_others_hold_are_waited_for_so_long_and_the_launch_goes_on(check, monkeypatch):
    class OthersTrial:
        pass

    others = ray.remote(num_cpus=0, num_gpus=0.5)(OthersTrial).remote()
    ray.get(others.__ray_ready__.remote())
    monkeypatch.setattr(gpu_probe, "SAY_AFTER_S", 1.0)
    monkeypatch.setattr(gpu_probe, "_FREE_WITHIN_S", 3.0)
    waits, goes_on = check(0.5, "cpu")
    assert waits.startswith("waiting up to ")
    assert "for a GPU that nothing else uses" in waits
    assert (
        ": not measured whether a trial fits resources.gpus=0.5, as no GPU there was free within " in goes_on
    )
    # What was waiting waits no more: the other half is to be had.
    mine = ray.remote(num_cpus=0, num_gpus=0.5)(OthersTrial).remote()
    ray.get(mine.__ray_ready__.remote())
    ray.kill(others)
    ray.kill(mine)
    monkeypatch.undo()
    assert any("torch finds no GPU there" in line for line in check(0.5, None))


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_nothing_is_measured_where_trials_do_not_share_a_gpu(check, gpus):
    assert check(gpus, "cpu") == []
