"""A question to every node of a cluster at the same time, and what each one answers."""

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["GONE", "SAY_AFTER_S", "answer_of", "ask_nodes", "on_node"]

SAY_AFTER_S = 10.0
"""For how long to wait without a word."""
GONE = object()
"""In place of an answer, where the node has left the cluster."""


def ask_nodes(
    nodes: Mapping[str, str],
    task: Callable[..., Any],
    *args: object,
    within_s: float | None = None,
    say: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run a function once on each of several nodes, at the same time, and return the results by node.

    Args:
        nodes: Name of each node for messages, by Ray's id of it.
        task: Function to run; it is called with `args` and the node's id.
        args: Arguments for the function, plain values.
        within_s: Longest time to wait for the results, in seconds; None for no limit.
        say: Called if the results take long; None for nobody.

    Returns:
        The results by node; a text with the reason if a node gives none. Nodes that have left the cluster are left out.
    """
    # No CPU: it must not wait for a trial of somebody else's to end.
    remote = ray.remote(num_cpus=0, max_retries=0)(task)
    asked = {node: remote.options(scheduling_strategy=on_node(node)).remote(*args, node) for node in nodes}
    if say is not None and ray.wait([*asked.values()], num_returns=len(asked), timeout=SAY_AFTER_S)[1]:
        say()
    ray.wait([*asked.values()], num_returns=len(asked), timeout=within_s)
    answers = {node: answer_of(reference, within_s) for node, reference in asked.items()}
    return {node: answer for node, answer in answers.items() if answer is not GONE}


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    """Return the Ray scheduling strategy for running something on a node with this id, and on no other."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def answer_of(reference: Any, within_s: float | None = None) -> Any:
    """Return the result of a node's task; a text with the reason if there is none; `GONE` if the node has left."""
    try:
        return ray.get(reference, timeout=None if within_s is None else 0)
    except (NodeDiedError, TaskUnschedulableError):
        return GONE
    except GetTimeoutError:
        return f"must answer, got nothing within {within_s:.0f} s; look whether its disks hang"
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return (
            f"must be able to run a task of searcher, got {lines[-1][:300]}; install searcher there as here"
        )
