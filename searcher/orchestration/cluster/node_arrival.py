"""A cluster that is still starting: its head is up before its workers, and a launch waits for one that fits."""

import time
from collections.abc import Callable

import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RayError

from searcher.exceptions import UserError
from searcher.orchestration.cluster.node_watch import GIVE_UP_AFTER_S
from searcher.orchestration.cluster.resources import TrialResources, has_workers, trial_resources
from searcher.study.spec import ResourcesSection

__all__ = ["resources_once_there"]

_LOOK_EVERY_S = 1.0


def resources_once_there(wanted: ResourcesSection, say: Callable[[str], None]) -> TrialResources:
    """Return the resources that one trial reserves, after waiting for nodes of the cluster if some are still to come.

    See `trial_resources`. A launch waits in two cases: only a head without CPUs is up, as after `ray up` or at the
    beginning of a Slurm job; or the autoscaler is starting nodes. Otherwise a lack is an error at once.

    Args:
        wanted: The resources in the study file.
        say: Receives a line when the waiting begins.

    Raises:
        UserError: No node that has come, or may come, has these resources.
    """
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    is_said = False
    while True:
        try:
            return trial_resources(wanted)
        except UserError:
            coming = _coming()
            if coming is None or time.monotonic() >= give_up_at:
                raise
        if not is_said:
            say(
                f"no node that is up can run a trial, but {coming}; waiting up to {GIVE_UP_AFTER_S / 60:.0f} minutes "
                "for one that can"
            )
            is_said = True
        time.sleep(_LOOK_EVERY_S)


def _coming() -> str | None:
    """Return why more nodes can be expected, None if no sign of them exists."""
    if not has_workers():
        return "none of them has CPUs, so the cluster's workers may still be starting"
    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except RayError:  # then nobody knows of any
        return None
    num_coming = len(status.pending_nodes) + sum(launch.count for launch in status.pending_launches)
    return f"the autoscaler is starting {num_coming}" if num_coming else None
