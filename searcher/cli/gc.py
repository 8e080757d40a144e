"""`searcher gc`: remove checkpoints that nothing needs any more."""

import argparse
from typing import TYPE_CHECKING

from searcher.api.upkeep import DEFAULT_KEEP, collect_studies
from searcher.cli.options import Verbs, add_reading, database_address, positive_int
from searcher.cli.streams import say_problem

if TYPE_CHECKING:
    from searcher.ledger.disposal import Freed

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "gc",
        description="Keeps `best` of the best trials, what running and queued trials go on from, and what an export or "
        "a child study refers to. Never removes a log, a history or a configuration. May run beside a launch.",
    )
    add_reading(parser, study_required=False)
    parser.add_argument(
        "--keep",
        type=positive_int,
        default=DEFAULT_KEEP,
        metavar="K",
        help=f"keep the best checkpoint of the K best trials; default {DEFAULT_KEEP}",
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, show what would go")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.ledger.database import Database

    with Database.open(database_address(args)) as database:
        freed, problems = collect_studies(database, args.study, keep_best=args.keep, dry_run=args.dry_run)
    _print(args, freed)
    for problem in problems:
        say_problem(problem)
    return 1 if problems else 0


def _print(args: argparse.Namespace, freed: "list[Freed]") -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json

    if args.json:
        print_json([study.to_dict() | {"dry_run": args.dry_run} for study in freed])
        return
    if args.dry_run:
        for study in freed:
            for uri in study.removed:
                console.print(f"would remove {uri}", markup=False, soft_wrap=True)
    verb = "would free" if args.dry_run else "freed"
    rows = [
        (
            study.study,
            _megabytes(study.freed_bytes),
            len(study.removed),
            _megabytes(study.kept_bytes),
            study.num_kept,
        )
        for study in freed
    ]
    console.print(table(["study", f">{verb}", ">files", ">kept", ">files"], rows))


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
