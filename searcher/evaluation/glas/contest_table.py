"""The challenge's table with rows of ours: ranks by the contest's rule, and the whole as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from searcher.evaluation.glas.contest import (
    ENTRIES,
    NUM_IMAGES,
    POSTER,
    SINCE,
    ContestEntry,
    Pair,
    Ranked,
    Source,
    ranked,
)
from searcher.evaluation.glas.measured_sets import TEST_SETS, Figures, MeasuredSet
from searcher.exceptions import UserError

__all__ = ["ContestTable", "contest_table", "figure_texts", "to_markdown"]

POSTER_TITLE = "By the poster's own metrics, which are not the contest's"
SINCE_TITLE = "Published since, by the contest's metrics; the authors' figures"


@dataclass(frozen=True, kw_only=True)
class ContestTable:
    """The challenge's table with further methods in it, and remarks on the ranking."""

    contest: tuple[Ranked, ...]
    """The contest's ten entries and ours, by rank sum."""
    poster: tuple[ContestEntry, ...]
    """The poster's two rows, and ours by the poster's own metrics where those were measured."""
    since: tuple[ContestEntry, ...]
    """What was published since."""
    remarks: tuple[str, ...]
    """What a reader has to know about the rows, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "contest": [
                asdict(row.entry) | {"ranks": row.ranks, "rank_sum": row.rank_sum} for row in self.contest
            ],
            "poster": [asdict(entry) for entry in self.poster],
            "since": [asdict(entry) for entry in self.since],
            "remarks": list(self.remarks),
        }


def contest_table(measured: Sequence[MeasuredSet]) -> ContestTable:
    """Return the challenge's table with an additional row for each measured method, ranked by its pooled figures.

    Measured sets with the same method name are one row. If a method was not measured on both test sets, all rows are
    ranked by the columns that all of them have.

    Args:
        measured: The measured test sets.

    Raises:
        UserError: A method has two figures for one test set, or the methods have no test set in common.
    """
    by_method: dict[str, dict[str, MeasuredSet]] = {}
    for each in measured:
        sets = by_method.setdefault(each.method, {})
        if each.split in sets:
            raise UserError(
                f"{each.path}: {each.split} of a method must be in one file, got that of {each.method} in "
                f"{sets[each.split].path} too; give one another name as NAME={each.path}"
            )
        sets[each.split] = each
    if not any(all(split in sets for sets in by_method.values()) for split in TEST_SETS):
        got = ", ".join(f"{method} on {' and '.join(sets)}" for method, sets in by_method.items())
        raise UserError(
            f"searcher benchmark: the methods must have a test set in common, got {got}; measure them on "
            "the same one, or give them one by one"
        )
    ours = [
        _entry(method, {split: one.pooled for split, one in sets.items()}, "ours")
        for method, sets in by_method.items()
    ]
    by_poster = [
        _entry(method, {split: one.poster for split, one in sets.items()}, "ours")
        for method, sets in by_method.items()
        if any(one.poster is not None for one in sets.values())
    ]
    return ContestTable(
        contest=tuple(ranked([*ENTRIES, *ours])),
        poster=(*POSTER, *by_poster),
        since=SINCE,
        remarks=tuple(_remarks(by_method)),
    )


def _entry(method: str, figures: Mapping[str, Figures | None], source: Source) -> ContestEntry:
    def pair(column: str) -> Pair:
        a, b = (getattr(figures.get(split), column, None) for split in TEST_SETS)
        return a, b

    return ContestEntry(method, pair("f1"), pair("object_dice"), pair("object_hausdorff"), source)


def _remarks(by_method: dict[str, dict[str, MeasuredSet]]) -> list[str]:
    """Return which columns are ranked and why, and in what the rows differ from what the contest measured."""
    lines = ["ours are pooled over the whole test set; figures are compared as printed, with three digits"]
    for split in TEST_SETS:
        without = [method for method, sets in by_method.items() if split not in sets]
        if without:
            other = next(one for one in TEST_SETS if one != split)
            lines.append(
                f"{', '.join(without)}: not measured on {split}, so all rows are ranked by the three columns of "
                f"{other} alone"
            )
    for method, sets in by_method.items():
        for split, one in sets.items():
            if one.num_images != NUM_IMAGES[split]:
                lines.append(
                    f"{method}: measured on {one.num_images} images of {split}, the contest's has {NUM_IMAGES[split]}"
                )
            if one.is_relabelled:
                lines.append(f"{method}: {split} relabelled, each piece of a label taken as an object")
    return lines


def figure_texts(row: Ranked | ContestEntry) -> list[str]:
    """Return the six figures of a row as texts, with the rank in brackets; empty if a figure is missing."""
    entry, ranks = (row.entry, row.ranks) if isinstance(row, Ranked) else (row, (None,) * 6)
    return [
        "" if value is None else f"{value:.3f}" if rank is None else f"{value:.3f} ({rank})"
        for value, rank in zip(entry.values, ranks, strict=True)
    ]


def to_markdown(table: ContestTable) -> str:
    """Return the table as Markdown, with the measured methods in bold."""
    head = [
        "method",
        *(f"{name} {split}" for name in ("F1", "object Dice", "object Hausdorff") for split in "AB"),
    ]
    ranked_rows = [
        (row.entry, [*figure_texts(row), "" if row.rank_sum is None else str(row.rank_sum)])
        for row in table.contest
    ]
    parts = [
        "## The GlaS challenge, by its official metrics\n",
        _markdown([*head, "rank sum"], ranked_rows),
        "\nRanks are in brackets; the lowest sum wins.\n\n",
        "".join(f"- {_escaped(line)}\n" for line in table.remarks),
        *(
            f"\n## {title}\n\n" + _markdown(head, [(entry, figure_texts(entry)) for entry in entries])
            for title, entries in ((POSTER_TITLE, table.poster), (SINCE_TITLE, table.since))
        ),
    ]
    return "\n".join(parts[:2]) + "".join(parts[2:])


def _markdown(head: Sequence[str], rows: Sequence[tuple[ContestEntry, Sequence[str]]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for entry, figures in rows:
        mark = "**" if entry.source == "ours" else ""
        cells = (f"{mark}{text}{mark}" if text else "" for text in (_escaped(entry.method), *figures))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    for sign in "\\|*_`<":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
