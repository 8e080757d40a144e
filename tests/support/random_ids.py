"""Ray's random identifiers, in processes that are forked from one which has imported Ray.

Ray draws them from a generator of the process, which a fork copies. Importing `ray.tune` draws one, for an actor class.
From then on all processes that are forked draw the same ones, for workers, nodes and objects. Two drivers that start in
the same moment then write the same object, and Ray ends one of them.
"""

import os
from typing import Any

__all__ = ["keep_generator_unused"]


def keep_generator_unused() -> None:
    """Let classes of actors that are imported from now on have identifiers of the system's generator.

    Called before `ray.tune` is imported, by a process that others are forked from.
    """
    import ray.actor

    ray.actor.ActorClassID = _ActorClassID


class _ActorClassID:
    """What `ray.actor` uses of `ray.ActorClassID` while modules are imported."""

    @staticmethod
    def from_random() -> Any:
        """Return a new identifier."""
        from ray import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))
