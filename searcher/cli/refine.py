"""`searcher refine`: what a search leaves to search, as a study file that a person can read, edit and launch."""

import argparse
from pathlib import Path

from searcher.api.refining import check_study_file, narrowed_study, narrowing_record
from searcher.cli.options import Verbs, add_database, add_json, database_address

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("refine")
    parser.add_argument("study", metavar="STUDY", help="a study of the database")
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="write the narrowed study to a .toml file, for searcher launch --study FILE",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_database(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_study_file(args.write, force=args.force)

    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json
    from searcher.ledger.database import Database

    with Database.open(database_address(args)) as database:
        narrowing = narrowed_study(database, args.study, write=args.write)
    if args.json:
        print_json(narrowing_record(narrowing))
        return 0
    refinement, shares = narrowing.refinement, narrowing.importances
    console.print(
        f"{narrowing.parent.record.name}: {len(refinement.best)} best of {refinement.num_complete} COMPLETE trials, "
        f"{', '.join(map(str, refinement.best))}, decide",
        markup=False,
        soft_wrap=True,
    )
    rows = [
        (
            each.name,
            f"{shares[each.name]:.2f}" if each.name in shares else "",
            str(each.old),
            "as it was" if each.new == each.old else str(each.new.narrowed()),
            each.reason,
        )
        for each in refinement.parameters
    ]
    console.print(table(["parameter", ">importance", "~old", "~new", "~why"], rows))
    if args.write is not None:
        console.print(
            f"written to {args.write}; searcher launch --study {args.write}", markup=False, soft_wrap=True
        )
    return 0
