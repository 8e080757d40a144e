"""The GlaS challenge's table: its ten entries, the poster's two, those published since, and the rule that ranks them.

A pair is test A, test B. F1 and object Dice are fractions, object Hausdorff distances are pixels. Figures are given
to three digits after the point, those of some publications to two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COLUMNS",
    "ENTRIES",
    "NUM_IMAGES",
    "POSTER",
    "SINCE",
    "ContestEntry",
    "Pair",
    "Ranked",
    "Source",
    "ranked",
]

Pair = tuple[float | None, float | None]
"""Test A, test B; None where a method was not evaluated."""

Source = Literal["contest", "poster", "since", "ours"]
"""Whose figures they are: the contest's, the DTU poster's (by its own metrics), a later publication's, or ours."""

NUM_IMAGES = {"testA": 60, "testB": 20}
"""Of the contest's test sets: other numbers are other images."""

COLUMNS = (
    "F1, test A",
    "F1, test B",
    "object Dice, test A",
    "object Dice, test B",
    "object Hausdorff, test A",
    "object Hausdorff, test B",
)
"""What is ranked, in the order of the contest's table."""

_HIGHER_IS_BETTER = (True, True, True, True, False, False)


@dataclass(frozen=True)
class ContestEntry:
    """A row of the challenge's table: a method and its six figures."""

    method: str
    f1: Pair
    object_dice: Pair
    object_hausdorff: Pair
    source: Source

    @property
    def values(self) -> tuple[float | None, ...]:
        """The six figures in the order of `COLUMNS`."""
        return (*self.f1, *self.object_dice, *self.object_hausdorff)


@dataclass(frozen=True)
class Ranked:
    """A row of the challenge's table, with its rank in each column and the sum of its ranks."""

    entry: ContestEntry
    ranks: tuple[int | None, ...]
    """Six, in the order of `COLUMNS`; None in a column that is not ranked, since a row has nothing there."""
    rank_sum: int | None
    """Sum over the ranked columns, the lower the better; None if no column is."""


def ranked(entries: Sequence[ContestEntry]) -> list[Ranked]:
    """Return rows of the challenge's table in the order of the contest's rule, the best first.

    Each column is ranked, the best first; equal figures share the better rank (1, 2, 2, 4). The six ranks are added up
    (Sirinukunwattana et al. 2016, arXiv 1603.00275). Figures are compared as the table prints them, rounded to three
    digits. So a figure that prints the same as an entry's ties with it. A column with a missing figure is not ranked at
    all, so that all sums are over the same columns. Rows with equal sums keep their order.
    """
    columns = [
        _ranks(column, higher) for column, higher in zip(_columns(entries), _HIGHER_IS_BETTER, strict=True)
    ]
    rows = []
    for position, entry in enumerate(entries):
        ranks = tuple(None if column is None else column[position] for column in columns)
        counted = [rank for rank in ranks if rank is not None]
        rows.append(Ranked(entry, ranks, sum(counted) if counted else None))
    return sorted(rows, key=lambda row: row.rank_sum or 0)


def _columns(entries: Sequence[ContestEntry]) -> list[list[float | None]]:
    return [[entry.values[column] for entry in entries] for column in range(len(COLUMNS))]


def _ranks(values: Sequence[float | None], higher_is_better: bool) -> list[int] | None:
    """Return the place of each value, or None if one is missing."""
    known = [round(value, 3) for value in values if value is not None]
    if len(known) < len(values):
        return None
    if higher_is_better:
        return [1 + sum(other > value for other in known) for value in known]
    return [1 + sum(other < value for other in known) for value in known]


ENTRIES = (
    ContestEntry("CUMedVision2", (0.912, 0.716), (0.897, 0.781), (45.418, 160.347), "contest"),
    ContestEntry("ExB1", (0.891, 0.703), (0.882, 0.786), (57.413, 145.575), "contest"),
    ContestEntry("ExB3", (0.896, 0.719), (0.886, 0.765), (57.350, 159.873), "contest"),
    ContestEntry("Freiburg2", (0.870, 0.695), (0.876, 0.786), (57.093, 148.463), "contest"),
    ContestEntry("CUMedVision1", (0.868, 0.769), (0.867, 0.800), (74.596, 153.646), "contest"),
    ContestEntry("ExB2", (0.892, 0.686), (0.884, 0.754), (54.785, 187.442), "contest"),
    ContestEntry("Freiburg1", (0.834, 0.605), (0.875, 0.783), (57.194, 146.607), "contest"),
    ContestEntry("LIB", (0.777, 0.306), (0.781, 0.617), (112.706, 190.447), "contest"),
    ContestEntry("CVML", (0.652, 0.541), (0.644, 0.654), (155.433, 176.244), "contest"),
    ContestEntry("vision4GlaS", (0.635, 0.527), (0.737, 0.610), (107.491, 210.105), "contest"),
)
"""The contest's ten entries of 2015 (Sirinukunwattana et al. 2016, arXiv 1603.00275)."""

POSTER = (
    ContestEntry("DTU-MASKRCNN", (0.922, 0.906), (0.905, 0.872), (37.529, 74.287), "poster"),
    ContestEntry("DTU-UNET", (0.822, 0.862), (0.723, 0.791), (126.685, 138.294), "poster"),
)
"""The DTU poster's rows (02456, project 9). Its metrics are not the contest's, see `glas.poster`."""

SINCE = (
    ContestEntry("MILD-Net (2018)", (0.914, 0.844), (0.913, 0.836), (41.54, 105.89), "since"),
    ContestEntry("FullNet-varCE (2019)", (0.924, 0.853), (0.914, 0.856), (37.28, 88.75), "since"),
    ContestEntry("SDT (2023)", (0.931, 0.866), (0.919, 0.851), (32.29, 82.40), "since"),
    ContestEntry("prompted SAM-H (2025)", (0.929, 0.841), (0.921, 0.881), (41.19, 74.30), "since"),
)
"""Published after the contest, by its metrics; the figures are the authors'."""
