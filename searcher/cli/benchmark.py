"""`searcher benchmark`: the GlaS challenge's table with rows of one's own, and their ranks."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.writing import check_writable, write_text
from searcher.cli.options import Verbs, add_json

if TYPE_CHECKING:
    from searcher.evaluation.glas.contest_table import ContestTable

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("benchmark")
    parser.add_argument(
        "evaluations",
        nargs="+",
        metavar="[NAME=]FILE",
        help="what searcher evaluate --json wrote, or searcher metrics --json with --split testA or testB; files of "
        "one name are one row, so that test A and test B may come from two",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as Markdown")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, print_json
    from searcher.evaluation.glas.contest_table import contest_table, to_markdown
    from searcher.evaluation.glas.measured_sets import read_measured_sets

    check_writable("--markdown", args.markdown)
    measured = [one for text in args.evaluations for one in read_measured_sets(*_named(text))]
    table = contest_table(measured)
    if args.json:
        print_json(table.to_dict())
    else:
        _print(table)
    if args.markdown is not None:
        write_text("--markdown", args.markdown, to_markdown(table))
        if not args.json:
            console.print(f"as Markdown: {args.markdown}", markup=False, soft_wrap=True)
    return 0


def _named(text: str) -> tuple[Path, str | None]:
    """Return the file and the name that are given as NAME=FILE; a file may have = in its name."""
    name, equals, file = text.partition("=")
    if Path(text).exists() or not equals or not name or not file:
        return Path(text), None
    return Path(file), name


def _print(found: "ContestTable") -> None:
    from rich.text import Text

    from searcher.cli.tables import table
    from searcher.cli.terminal import console
    from searcher.evaluation.glas.contest_table import POSTER_TITLE, SINCE_TITLE, figure_texts

    columns = ["method", *(f">{name} {s}" for name in ("F1", "Dice", "Hausdorff") for s in "AB")]
    console.print(
        table(
            [*columns, ">rank sum"],
            [
                (
                    *(
                        Text(text, style="bold" if row.entry.source == "ours" else "")
                        for text in (row.entry.method, *figure_texts(row), str(row.rank_sum))
                    ),
                )
                for row in found.contest
            ],
            title="The GlaS challenge, by its official metrics (rank)",
        )
    )
    for line in found.remarks:
        console.print(line, markup=False, soft_wrap=True)
    for title, entries in ((POSTER_TITLE, found.poster), (SINCE_TITLE, found.since)):
        rows = [(Text(entry.method), *figure_texts(entry)) for entry in entries]
        console.print()
        console.print(table(columns, rows, title=title))
