"""What a study needs, asked before it begins: room on the disk, and the weights that its networks begin from."""

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from searcher.exceptions import StudyFileError, UserError
from searcher.study.space import FloatRange, Value
from searcher.study.spec import StudySpec

__all__ = ["check_disk", "check_weights"]

_FILES_OF_A_RUNNING_TRIAL = 4
"""The last, the one before it, the best, and one being written; the best before it is one of them, mostly."""
_MOST_CORNERS = 64
_SIZING_FLOATS = ("optimizer.momentum", "train.ema_decay")
"""Whether these are 0 decides about a checkpoint's size; that of no other searched float does."""
_RESERVE_BYTES = 64 * 2**20
"""Bytes for logs, metrics and an SQLite database in the same place."""


def check_disk(spec: StudySpec, storage_root: Path, *, num_remaining: int, num_concurrent: int) -> None:
    """Check that the storage root's disk has room for the checkpoints of the remaining trials.

    All files of the trials that run at the same time are counted, and the best one of each trial that is kept. Each has
    the size for the largest configuration of the space.

    Args:
        spec: The study.
        storage_root: Folder of the checkpoints; may not exist yet.
        num_remaining: Number of trials of the budget that are still to run.
        num_concurrent: Number of trials that the cluster could run at the same time.

    Raises:
        UserError: There is too little room.
    """
    keep = spec.resources.keep_best
    num_kept = min(num_remaining, keep) if keep else num_remaining
    at_a_time = min(num_concurrent, num_remaining)
    num_files = _FILES_OF_A_RUNNING_TRIAL * at_a_time + num_kept
    num_bytes = _largest_checkpoint(spec)
    needed = num_files * num_bytes + _RESERVE_BYTES
    existing = next(place for place in [storage_root, *storage_root.parents] if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"--storage {storage_root}: must have room for {num_files} checkpoints of up to {_gib(num_bytes)} "
            f"({num_remaining} trials, {at_a_time} at a time), {_gib(needed)}, got {_gib(free)} free; "
            "make room, keep fewer with --set resources.keep_best=5, or choose another --storage"
        )


def check_weights(spec: StudySpec) -> None:
    """Download the pretrained weights that trials of a study may need, if they are not on this machine.

    Args:
        spec: The study.

    Raises:
        UserError: Weights are missing and cannot be downloaded; the message names the file and where to put it.
    """
    keys = [f"model.{key}" for key in spec.trial_config({}).model.pretrained_keys]
    if not keys:
        return
    from searcher.models.exceptions import WeightsError
    from searcher.models.registry import fetch_pretrained  # imports torch, seconds

    searched = [parameter for parameter in spec.space.parameters if parameter.name in keys]
    for values in itertools.product(*(parameter.domain.widened().edges() for parameter in searched)):
        params = {p.name: value for p, value in zip(searched, values, strict=True)}
        try:
            fetch_pretrained(spec.trial_config(params).model)
        except StudyFileError:  # parameters that contradict one another
            continue
        except WeightsError as error:
            raise UserError(str(error)) from error


def _largest_checkpoint(spec: StudySpec) -> int:
    from searcher.training.checkpoint_size import checkpoint_bytes  # imports torch, seconds

    sizes = []
    for params in itertools.islice(_corners(spec), _MOST_CORNERS):
        try:
            sizes.append(checkpoint_bytes(spec.trial_config(params)))
        except StudyFileError:  # a corner whose parameters contradict one another
            continue
    return max(sizes, default=0)


def _corners(spec: StudySpec) -> Iterator[Mapping[str, Value]]:
    """Yield the space's corners in what decides about a checkpoint's size: network, optimiser and average."""
    deciding = [
        parameter
        for parameter in spec.space.parameters
        if parameter.name.startswith(("model.", "optimizer.", "train.ema_decay"))
        and (not isinstance(parameter.domain, FloatRange) or parameter.name in _SIZING_FLOATS)
    ]
    edges = [p.domain.widened().edges() for p in deciding]
    if (
        math.prod(len(values) for values in edges) > _MOST_CORNERS
    ):  # the largest values come last in most spaces
        edges = [[values[-1], *values[:-1]] for values in map(list, edges)]
    for values in itertools.product(*edges):
        params: dict[str, Value] = {}
        for parameter, value in zip(deciding, values, strict=True):
            if parameter.active(params):
                params[parameter.name] = value
        yield params


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
