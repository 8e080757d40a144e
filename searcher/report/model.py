"""What the report of an evaluation shows, as plain data: it is drawn from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.study.ancestor import Ancestor

__all__ = ["DataSet", "EvaluationReport", "Example", "ReportMember", "SplitReport", "choose_examples"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """An image that the report shows with outlines."""

    id: str
    reason: str
    """Why this one, such as `best`."""
    image: NDArray[np.uint8]
    """uint8[H, W, C], normalised."""
    truth: NDArray[np.int32]
    """int32[H, W], instance label map."""
    prediction: NDArray[np.int32]
    """int32[H, W], the same."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The metrics of one split, and example images."""

    name: str
    """As the data set calls it, such as `testA`."""
    summary: Mapping[str, Any]
    """`searcher.evaluation.summary.Summary.to_dict()`."""
    examples: Sequence[Example] = ()
    """See `choose_examples`."""


@dataclass(frozen=True, kw_only=True)
class ReportMember:
    """One network of an evaluated ensemble, and how it was trained."""

    study: str | None
    """None for a checkpoint of which nothing else is known."""
    trial: int | None
    epoch: int
    """Epoch whose weights these are, counted from 1."""
    objective: str
    """The metric that chose the epoch."""
    value: float
    """That metric, on the validation images."""
    params: Mapping[str, Any]
    """What the search chose, by dotted key; empty where nobody knows."""
    config: Mapping[str, Any]
    """Resolved configuration, by section."""
    history: Mapping[int, Mapping[str, float]]
    """Metrics by epoch, counted from 1; empty where there are none."""
    checkpoint_sha256: str
    """Digest of the checkpoint that the weights are of."""
    lineage: Sequence[Ancestor] = ()
    """The studies before, the nearest first."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The data set on which the networks were evaluated."""

    name: str
    fingerprint: str
    """Digest of images, annotations and names."""
    is_glas: bool = False
    """Whether it has the layout of the GlaS release, without which its splits are not the contest's."""
    licence: str | None = None
    """Terms of use, None where unknown."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Everything that the report page of an evaluation shows."""

    method: str
    """What to call the network or networks in a table."""
    splits: Sequence[SplitReport]
    """At least one."""
    members: Sequence[ReportMember]
    """At least one."""
    data: DataSet
    device: str
    """What predicted, for the time that it took."""
    settings: Mapping[str, Any]
    """How it was predicted, such as post-processing, by name."""
    command: str
    """What made the page."""
    versions: Mapping[str, str]
    created_at: datetime


def choose_examples(images: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the images to show as examples, as the reason by image id.

    They are the best, an average and the worst image by object Dice, and the worst by object Hausdorff distance.

    Args:
        images: The `images` of a summary, at least one.

    Returns:
        The reasons in that order. An image that is chosen twice has both reasons. Of equal images, the first is chosen.
    """
    mean = sum(image["object_dice"] for image in images) / len(images)
    chosen = (
        ("best", max(images, key=lambda image: image["object_dice"])),
        ("average", min(images, key=lambda image: abs(image["object_dice"] - mean))),
        ("worst", min(images, key=lambda image: image["object_dice"])),
        ("largest Hausdorff distance", max(images, key=lambda image: image["object_hausdorff"])),
    )
    reasons: dict[str, list[str]] = {}
    for reason, image in chosen:
        reasons.setdefault(image["id"], []).append(reason)
    return {name: ", ".join(found) for name, found in reasons.items()}
