"""`searcher trials`: every trial of a study."""

import argparse

from searcher.cli.options import Verbs, add_reading, database_address

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("trials", help="show every trial of a study")
    add_reading(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, metric, params_text, print_json, seconds, table
    from searcher.ledger.database import Database

    with Database.open(database_address(args)) as database:
        study = database.study(args.study)
        trials = database.trials(args.study)
    if args.json:
        print_json([trial.to_dict() for trial in trials])
        return 0
    rows = [
        (
            trial.number,
            trial.state,
            trial.num_epochs,
            metric(trial.value),
            seconds(trial.duration_s),
            params_text(trial.params),
            trial.notes.get("fail_reason") or trial.notes.get("stop_reason"),
        )
        for trial in trials
    ]
    console.print(
        table(
            [">trial", "state", ">epochs", f">{study.objective}", ">time", "parameters", "why it ended"], rows
        )
    )
    return 0
