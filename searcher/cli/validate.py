"""`searcher validate`: is a study file right, and what does it search."""

import argparse

from searcher.cli.options import Verbs, add_json
from searcher.cli.streams import say_error

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("validate")
    parser.add_argument("study", nargs="+", metavar="STUDY", help="name of a shipped study, or a .toml file")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json
    from searcher.exceptions import UserError
    from searcher.study.catalog import load_study

    specs, failed = [], False
    for name in args.study:
        try:
            specs.append(load_study(name))
        except UserError as error:
            say_error(error)
            failed = True
    if args.json:
        print_json([{"name": spec.name, "digest": spec.digest(), **spec.identity()} for spec in specs])
        return 2 if failed else 0
    for spec in specs:
        rows = [
            (parameter.name, parameter.domain, ", ".join(map(str, parameter.when)))
            for parameter in spec.space.parameters
        ]
        title = f"{spec.source}: valid; {spec.study.trials} trials, {spec.objective.direction} {spec.objective.name}"
        console.print(title, markup=False)
        console.print(table(["parameter", "~range", "~only where"], rows))
    return 2 if failed else 0
