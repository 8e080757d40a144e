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
    """Run a task once on every node, at the same time, and return what each one answers.

    Args:
        nodes: Ray's identifier of each, and a name for people.
        task: Called with `args` and the node's identifier.
        args: Plain values.
        within_s: For how long to wait for the answers, None for as long as it takes.
        say: Called if the answers take long.

    Returns:
        The answers by node, or in a text why there is none; nodes that have left the cluster are left out.
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
    """Return how Ray is told to run something on this node and no other."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def answer_of(reference: Any, within_s: float | None = None) -> Any:
    """Return the answer of a node's task, a text with the reason if there is none, or `GONE`."""
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
