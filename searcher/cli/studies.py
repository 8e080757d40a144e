"""`searcher studies`: which studies come with the package."""

import argparse

from searcher.cli.options import Verbs, add_json

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("studies")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json
    from searcher.study.catalog import load_study, shipped_studies

    specs = [load_study(name) for name in shipped_studies()]
    if args.json:
        print_json(
            [
                {
                    "name": spec.name,
                    "description": spec.study.description,
                    "objective": spec.study.objective,
                    "trials": spec.study.trials,
                    "parameters": [parameter.name for parameter in spec.space.parameters],
                }
                for spec in specs
            ]
        )
        return 0
    rows = [(s.name, s.study.trials, s.study.objective, len(s.space), s.study.description) for s in specs]
    console.print(
        table(
            ["study", ">trials", "objective", ">parameters", "~what it is"],
            rows,
            first_to_go=["parameters", "objective"],
        )
    )
    return 0
