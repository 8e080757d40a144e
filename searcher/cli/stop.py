"""`searcher stop`: end a study's launch from another terminal."""

import argparse

from searcher.api.stopping import DEFAULT_TIMEOUT_S
from searcher.cli.options import Verbs, add_database, database_address, positive_int
from searcher.cli.streams import say_problem

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "stop",
        epilog="Exit code 0: it has ended. 1: it still runs after the timeout, or its driver was lost. 2: none runs.",
    )
    parser.add_argument("--study", required=True, metavar="NAME")
    add_database(parser)
    parser.add_argument(
        "--timeout",
        type=positive_int,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help=f"seconds to wait for its end; default {DEFAULT_TIMEOUT_S}",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.api.stopping import stop_launch
    from searcher.cli.terminal import console, seconds
    from searcher.ledger.database import Database

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with Database.open(database_address(args)) as database:
        ended = stop_launch(database, args.study, timeout_s=args.timeout, asked=say, problem=say_problem)
    progress = "" if ended.budget is None else f", {ended.num_done} of {ended.budget} trials done"
    say(f"{ended.study}: {ended.outcome} after {seconds(ended.waited_s)}{progress}")
    return 0
