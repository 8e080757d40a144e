"""What happens when no node is left that could run a trial."""

from types import SimpleNamespace

import pytest

from searcher.orchestration.cluster import node_watch
from searcher.orchestration.cluster.node_watch import GIVE_UP_AFTER_S, NodeWatch
from searcher.orchestration.cluster.resources import TrialResources


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(node_watch.time, "monotonic", lambda: now.s)
    return now


@pytest.fixture
def nodes(monkeypatch):
    left = SimpleNamespace(can_place=True)
    monkeypatch.setattr(node_watch, "can_place", lambda _: left.can_place)
    return left


def steps(watch, clock, *, until: float, status: str = "PENDING") -> None:
    while clock.s < until:
        clock.s += 1.0
        watch.on_step_end(0, [SimpleNamespace(status=status)])


def test_a_lost_node_is_said_once_and_waited_for_and_given_up_in_the_end(clock, nodes):
    said, ended = [], []
    watch = NodeWatch(TrialResources(4, 1), ended.append, said.append)
    steps(watch, clock, until=60)
    assert (said, ended) == ([], [])
    nodes.can_place = False
    steps(watch, clock, until=60 + GIVE_UP_AFTER_S - 10)
    assert said == ["no node is left that offers 4 CPUs and 1 GPUs; waiting 15 minutes for one"]
    assert ended == []
    steps(watch, clock, until=60 + GIVE_UP_AFTER_S + 20)
    assert ended[0] == "no node offered 4 CPUs and 1 GPUs for 15 minutes; fix the cluster"


def test_a_node_that_comes_back_is_said_and_the_waiting_begins_anew(clock, nodes):
    said, ended = [], []
    watch = NodeWatch(TrialResources(1, 0), ended.append, said.append)
    for lap in (1, 2):
        nodes.can_place = False
        steps(watch, clock, until=lap * 1000 - 300)
        nodes.can_place = True
        steps(watch, clock, until=lap * 1000)
    assert [text.split(",")[0] for text in said] == [
        "no node is left that offers 1 CPUs and 0 GPUs; waiting 15 minutes for one",
        "a node that can run a trial is there again",
    ] * 2
    assert ended == []


def test_a_trial_that_runs_is_proof_enough(clock, nodes):
    said, ended = [], []
    nodes.can_place = False
    steps(NodeWatch(TrialResources(1, 0), ended.append, said.append), clock, until=2000, status="RUNNING")
    assert (said, ended) == ([], [])
