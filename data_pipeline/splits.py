"""Splitting samples into training and validation by patient."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError

__all__ = ["Split", "split_by_group"]

_MAX_GROUPS_FOR_SWAPS = 100
"""Swapping is tried on every pair of groups; with more groups, moving single ones balances well enough."""


class Split(NamedTuple):
    """The indices of the samples for training and for validation, each ascending."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def split_by_group(
    samples: Sequence[Sample],
    indices: Sequence[int],
    *,
    fraction: float = 0.2,
    folds: int = 0,
    fold: int = 0,
    seed: int = 0,
) -> Split:
    """Return a split in which each group (patient) is wholly in training or validation, with balanced strata.

    Groups are dealt out in random order, each to the part whose strata it balances best. Then single groups are moved
    and pairs are swapped, as long as that brings the number of images per stratum closer to its target. The order of
    `indices` does not matter.

    Args:
        samples: All samples of the dataset.
        indices: Indices of the samples to split.
        fraction: Share of the images for validation, in (0, 1). Ignored if `folds` is not 0.
        folds: Number of folds, each of which is used for validation once; 0 to use `fraction`.
        fold: Number of the fold that is used for validation, from 0.
        seed: Seed of the order in which groups are dealt out.

    Raises:
        DataError: There is only one group, or there are more folds than groups.
    """
    assert folds == 0 or (folds >= 2 and 0 <= fold < folds), (folds, fold)
    assert folds or 0 < fraction < 1, fraction
    ordered = sorted(set(indices))
    groups = sorted({samples[i].group for i in ordered})
    num_parts = folds or 2
    if len(groups) < num_parts:
        what = f"{folds} folds" if folds else "training and validation"
        raise DataError(
            f"split by patient: {what} need at least {num_parts} patients, got {len(groups)} among "
            f"{len(ordered)} images; {'use fewer folds or ' if folds > 2 else ''}add images of other patients"
            f"{'' if folds else ', or validate on a part of each image: --val-region right'}"
        )
    shares = np.full(folds, 1 / folds) if folds else np.array([1 - fraction, fraction])
    counts = _stratum_counts(samples, ordered, groups)
    part_of = dict(zip(groups, _assign(counts, shares, np.random.default_rng(seed)), strict=True))
    val_part = fold if folds else 1
    val = tuple(i for i in ordered if part_of[samples[i].group] == val_part)
    return Split(tuple(i for i in ordered if part_of[samples[i].group] != val_part), val)


def _stratum_counts(
    samples: Sequence[Sample], indices: Sequence[int], groups: list[str]
) -> NDArray[np.float64]:
    """Return images per group and stratum, float64[G, S + 1]; the last column counts all of a group's images."""
    strata = sorted({samples[i].stratum for i in indices})
    row, column = {g: n for n, g in enumerate(groups)}, {s: n for n, s in enumerate(strata)}
    counts = np.zeros((len(groups), len(strata) + 1))
    for i in indices:
        counts[row[samples[i].group], column[samples[i].stratum]] += 1
    counts[:, -1] = counts.sum(axis=1)
    return counts


def _assign(
    counts: NDArray[np.float64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part of every group, int64[G]; no part is empty."""
    target = shares[:, None] * counts.sum(axis=0)
    # A deviation of one image weighs more in a small part and in a rare stratum.
    weight = 1 / np.maximum(target, 1e-9)
    parts = np.full(len(counts), -1, dtype=np.int64)
    totals = np.zeros_like(target)
    order = rng.permutation(len(counts))
    for n, group in enumerate(order):
        gain = ((totals + counts[group] - target) ** 2 - (totals - target) ** 2) * weight
        cost = gain.sum(axis=1)
        empty = totals[:, -1] == 0
        if len(order) - n <= empty.sum():  # every group still to come is needed to leave no part empty
            cost[~empty] = np.inf
        parts[group] = int(cost.argmin())
        totals[parts[group]] += counts[group]
    _improve(parts, totals, counts, target, weight, order)
    return parts


def _improve(
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    counts: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    order: NDArray[np.int64],
) -> None:
    """Move groups and swap pairs, in place, until neither brings the parts closer to their targets."""

    def change(source: int, destination: int, delta: NDArray[np.float64]) -> float:
        """Return what moving `delta` images changes; negative is better."""
        before = ((totals[[source, destination]] - target[[source, destination]]) ** 2).copy()
        after = np.stack(
            [totals[source] - delta - target[source], totals[destination] + delta - target[destination]]
        )
        return float(((after**2 - before) * weight[[source, destination]]).sum())

    def apply(source: int, destination: int, delta: NDArray[np.float64]) -> None:
        totals[source] -= delta
        totals[destination] += delta

    improved = True
    while improved:
        improved = False
        for group in order:
            source = int(parts[group])
            if np.count_nonzero(parts == source) == 1:
                continue
            for destination in range(len(target)):
                if destination != source and change(source, destination, counts[group]) < -1e-9:
                    apply(source, destination, counts[group])
                    parts[group] = destination
                    improved = True
                    break
        if len(order) > _MAX_GROUPS_FOR_SWAPS:
            continue
        for a, one in enumerate(order):
            for other in order[a + 1 :]:
                source, destination = int(parts[one]), int(parts[other])
                delta = counts[one] - counts[other]
                if source != destination and change(source, destination, delta) < -1e-9:
                    apply(source, destination, delta)
                    parts[one], parts[other] = destination, source
                    improved = True
