"""`searcher launch`: run a study, or go on with it."""

import argparse
import shlex
import sys

from searcher.cli.options import (
    Verbs,
    add_database,
    add_training,
    cache_dir,
    data_folder,
    database_text,
    overrides,
    positive_int,
    storage_root,
)

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("launch", help="run a study, or go on with one that was interrupted")
    add_training(parser)
    parser.add_argument("--trials", type=positive_int, metavar="N", help="budget of the study (study.trials)")
    add_database(parser)
    parser.add_argument(
        "--address", metavar="RAY", help="a running Ray cluster; without it, one on this machine"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.ledger.database import Database
    from searcher.study.catalog import load_study

    spec = load_study(args.study, overrides(args))
    database_url = database_text(args)
    Database.probe(database_url)
    root = storage_root(args.storage)

    # Only now what takes seconds to import.
    from searcher.cli.launch_view import LaunchView
    from searcher.cli.terminal import progress_bar
    from searcher.orchestration.cluster import check_reachable
    from searcher.orchestration.driver import launch
    from searcher.training.dataset import DataRequest

    check_reachable(args.address)
    data = DataRequest(data_folder(args), str(cache_dir()), spec.trial_config({}).data)
    with progress_bar("preparing images") as advance:
        store = data.prepare(advance)
    with LaunchView(spec) as view:
        result = launch(
            spec,
            database=database_url,
            data=data,
            store=store,
            storage_root=root,
            listener=view,
            address=args.address,
        )
    view.print_result(
        result,
        shlex.join(["searcher", *sys.argv[1:]]),
        database_url=_shown(args),
        storage=args.storage,
    )
    return {"finished": 0, "failed": 1}.get(result.outcome, 130)


def _shown(args: argparse.Namespace) -> str:
    """Return what to type after `--db`, nothing where the environment or the default says it."""
    return "" if args.db is None else f" --db {args.db}"
