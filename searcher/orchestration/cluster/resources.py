"""What a trial occupies, and whether some node of the cluster that is running can ever offer it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from searcher.exceptions import UserError
from searcher.orchestration.ray_internals import node_groups
from searcher.study.spec import ResourcesSection

__all__ = [
    "TrialResources",
    "can_place",
    "has_workers",
    "node_of_each_gpu",
    "nodes_for",
    "num_concurrent",
    "num_places",
    "trial_resources",
]

_GIB = 2**30
_UNLIMITED = -1
"""How Ray writes that any number of nodes may come."""
_KIND_OF_GPU = "accelerator_type:"
"""How the resource begins by which Ray (2.60) names a node's kind of GPU."""


@dataclass(frozen=True)
class TrialResources:
    """The resources that Ray reserves for one trial, or those of a node."""

    cpus: float
    gpus: float
    memory_bytes: int = 0

    @property
    def device_share(self) -> float:
        """The share of a GPU's memory that a trial may use: 1 unless trials share a GPU."""
        return self.gpus if 0.0 < self.gpus < 1.0 else 1.0

    def to_ray(self) -> dict[str, float]:
        """Return the resources by Ray's names; resources of 0 are left out."""
        optional = {"gpu": self.gpus, "memory": float(self.memory_bytes)}
        return {"cpu": self.cpus} | {name: amount for name, amount in optional.items() if amount}

    def holds(self, wanted: "TrialResources") -> bool:
        """Return whether an idle node with these resources could run a trial that needs `wanted`."""
        return (
            self.cpus >= wanted.cpus and self.gpus >= wanted.gpus and self.memory_bytes >= wanted.memory_bytes
        )

    def times(self, wanted: "TrialResources") -> int:
        """Return how many trials that need `wanted` fit at the same time on an idle node with these resources.

        A trial's fraction of a GPU comes from one card: what is left on two cards is not added up.
        """
        shares = [(self.cpus, wanted.cpus), (self.memory_bytes, wanted.memory_bytes)]
        if wanted.gpus >= 1.0:
            shares.append((self.gpus, wanted.gpus))
        counts = [_num_parts(has, needs) for has, needs in shares if needs]
        if 0.0 < wanted.gpus < 1.0:
            counts.append(int(self.gpus) * _num_parts(1.0, wanted.gpus))
        return min(counts)

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPUs"
        if not self.memory_bytes:
            return f"{self.cpus:g} CPUs and {gpus}"
        return f"{self.cpus:g} CPUs, {gpus} and {self.memory_bytes / _GIB:.1f} GiB of memory"


@dataclass(frozen=True)
class _Group:
    """Nodes of one kind that the cluster's autoscaler may start."""

    name: str
    offer: TrialResources
    at_most: int


def trial_resources(wanted: ResourcesSection) -> TrialResources:
    """Return the resources that one trial reserves on the running cluster.

    All resources of a node count, not only the free ones, because a trial waits for a busy node. Nodes that an
    autoscaler may start count, too, if it has reported its node groups to the cluster. No autoscaler of Ray 2.60 does.

    Raises:
        UserError: No node has these resources and none may come, so the first trial would wait forever.
    """
    there = [offer for _, offer in _alive()]
    offers = there + [group.offer for group in _to_come()]
    most_gpus = max((offer.gpus for offer in offers), default=0.0)
    gpus = float(min(1.0, most_gpus)) if wanted.gpus == "auto" else float(wanted.gpus)
    resources = TrialResources(wanted.cpus, gpus, int(wanted.memory_gib * _GIB))
    if any(offer.holds(resources) for offer in offers):
        return resources
    if not any(offer.cpus for offer in offers):
        raise UserError(
            f"--address: a node of the cluster must offer CPUs, got {len(there)} without any, as a head that takes no "
            "trials is; start its workers, and look for them with `ray status`"
        )
    if gpus and not most_gpus:
        raise UserError(
            f"resources.gpus: must be 0 where no node has a GPU, got {gpus:g}; leave it out, or join a cluster that "
            "has one with --address"
        )
    largest = max(
        offers, key=lambda offer: (offer.gpus >= resources.gpus, offer.cpus, offer.memory_bytes, offer.gpus)
    )
    where = "this machine" if len(there) == 1 else f"the largest of the cluster's {len(there)} nodes"
    raise UserError(
        f"resources: one node must offer what a trial needs, got {resources} where {where} has {largest}; lower it "
        "with --set resources.cpus=N, resources.gpus=N or resources.memory_gib=N"
    )


def has_workers() -> bool:
    """Return whether some present node has CPUs for trials; the head of a cluster usually has none."""
    return any(offer.cpus for _, offer in _alive())


def can_place(resources: TrialResources) -> bool:
    """Return whether some present node could run a trial when it is idle."""
    return any(offer.holds(resources) for _, offer in _alive())


def nodes_for(resources: TrialResources) -> dict[str, str]:
    """Return the present nodes that could run a trial: a name for messages, by Ray's id of the node."""
    return {node["NodeID"]: _name(node) for node, offer in _alive() if offer.holds(resources)}


def node_of_each_gpu(resources: TrialResources) -> dict[str, str]:
    """Return one node for each kind of GPU among the present nodes that could run a trial, like `nodes_for`."""
    kinds: dict[str, dict[str, Any]] = {}
    for node, offer in _alive():
        if offer.gpus and offer.holds(resources):
            kind = next((name for name in node["Resources"] if name.startswith(_KIND_OF_GPU)), "")
            kinds.setdefault(kind, node)
    return {node["NodeID"]: _name(node) for node in kinds.values()}


def num_places(resources: TrialResources) -> int:
    """Return how many trials the present nodes could run at the same time when they are idle."""
    return sum(offer.times(resources) for _, offer in _alive())


def num_concurrent(wanted: ResourcesSection, resources: TrialResources) -> int:
    """Return how many trials the cluster could run at the same time, including nodes that it may still start.

    It is `sys.maxsize` or more if the cluster may grow without limit.
    """
    fitting = max(
        num_places(resources), sum(group.at_most * group.offer.times(resources) for group in _to_come())
    )
    return min(fitting, wanted.max_concurrent or fitting)


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _alive() -> Iterator[tuple[dict[str, Any], TrialResources]]:
    """Yield each node that is alive, with what it has."""
    for node in ray.nodes():
        if node["Alive"]:
            yield node, _offer(node["Resources"])


def _to_come() -> list[_Group]:
    """Return the nodes that the cluster's autoscaler may start, if it has reported them to the cluster.

    Ray 2.60 has the call for that (`report_cluster_config`), but neither its own autoscaler nor KubeRay's makes it.
    """
    return [
        _Group(
            group.name,
            _offer(dict(group.resources)),
            sys.maxsize if group.max_count == _UNLIMITED else group.max_count,
        )
        for group in node_groups()
        if group.max_count
    ]


def _num_parts(has: float, needs: float) -> int:
    """Return how often one amount is in another; three times 0.1 in 0.3, where floats have 2.9999999999999996."""
    return int(has / needs + 1e-6)


def _offer(resources: dict[str, float]) -> TrialResources:
    return TrialResources(
        resources.get("CPU", 0.0), resources.get("GPU", 0.0), int(resources.get("memory", 0))
    )
