"""`searcher jobs`: the launches that a cluster runs as Ray jobs."""

import argparse

from searcher.cli.options import Verbs, add_database, add_json, database_address

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "jobs",
        epilog="Everything is read from the study database; no cluster is asked.",
    )
    add_database(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json
    from searcher.ledger.database import Database
    from searcher.times import local_text

    with Database.open(database_address(args)) as database:
        jobs = database.detached_launches()
    if args.json:
        print_json([{"study": study, **launch.to_dict()} for study, launch in jobs])
        return 0
    if not jobs:
        console.print("no detached launch; searcher launch --detach begins one", markup=False)
        return 0
    rows = [
        (
            launch.job,
            study,
            launch.outcome or "running",
            local_text(launch.started_at),
            local_text(launch.ended_at),
        )
        for study, launch in jobs
    ]
    console.print(
        table(["job", "study", "state", "started", "ended"], rows, first_to_go=["ended", "started", "study"])
    )
    console.print(
        "follow one: searcher logs --study NAME --follow; end one: searcher stop --study NAME", markup=False
    )
    return 0
