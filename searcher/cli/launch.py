"""`searcher launch`: run a study, or go on with it."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.detach import arguments, detach
from searcher.cli.options import (
    Verbs,
    add_address,
    add_database,
    add_training,
    data_folder,
    data_view,
    database_address,
    overrides,
    positive_int,
    ray_address,
    storage_root,
    storage_text,
)
from searcher.cli.streams import say_problem
from searcher.storage.mirror import cache_dir

if TYPE_CHECKING:
    from searcher.ledger.address import DatabaseAddress
    from searcher.ledger.database import Database
    from searcher.study.spec import StudySpec

__all__ = ["add_parser"]

_FAILED = 1
"""Exit code of a launch that ended before its budget for a reason of its own."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("launch", help="run a study, or go on with one that was interrupted")
    add_training(parser)
    parser.add_argument("--trials", type=positive_int, metavar="N", help="budget of the study (study.trials)")
    add_database(parser)
    parser.add_argument(
        "--with-parents",
        action="store_true",
        help="launch the studies that this one comes from first, as far as they are not done; "
        "--trials, --epochs and --set are about this one alone",
    )
    add_address(parser, "HOST:PORT of a running Ray cluster's head; without it, a cluster on this machine")
    parser.add_argument(
        "--detach",
        action="store_true",
        help="let the cluster run the driver, as a Ray job; --address may be http://HOST:8265 too",
    )
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    from searcher.ledger.database import Database
    from searcher.lineage.chain import chain
    from searcher.lineage.resolve import is_enough
    from searcher.study.catalog import load_study

    spec = load_study(args.study, overrides(args))
    args.address = ray_address(args)
    for check in (data_folder, storage_text):  # a key in a URI goes nowhere, not even to a cluster
        check(args)
    command = arguments(args) if args.detach else []  # before the environment's database leaves it
    database_url = database_address(args)
    Database.probe(database_url)
    if args.detach:
        return detach(args, spec, command, database_url)
    root = storage_root(args)
    with _existing(database_url) as database:
        studies = chain(spec, database) if args.with_parents else [spec]

    from searcher.cli.terminal import console
    from searcher.orchestration.cluster.ray_cluster import check_reachable

    check_reachable(args.address)
    for parent, child in pairwise(studies):
        with _existing(database_url) as database:
            is_done = _is_done(parent, database)
        if is_done:
            console.print(f"{parent.name}: all trials done already", markup=False, soft_wrap=True)
            continue
        code = _launch(args, parent, database_url, root)
        with _existing(database_url) as database:
            if code and (code != _FAILED or not is_enough(child, database)):
                return code
        if code:
            console.print(
                f"{child.name}: what {parent.name} has is enough, going on", markup=False, soft_wrap=True
            )
    return _launch(args, spec, database_url, root)


def _launch(
    args: argparse.Namespace, spec: "StudySpec", database_url: "DatabaseAddress", root: "Path"
) -> int:
    # Only now what takes seconds to import.
    from searcher.cli.launch_view import LaunchView
    from searcher.cli.terminal import progress_bar
    from searcher.lineage.resolve import resolve
    from searcher.orchestration.driver import launch
    from searcher.training.data_check import check_data
    from searcher.training.dataset import DataRequest

    with _existing(database_url) as database:
        spec = resolve(spec, database, storage_root=root)
    config = spec.trial_config({})
    data = DataRequest(data_folder(args), str(cache_dir()), config.data, data_view(args))
    with progress_bar("preparing images") as advance:
        store = data.prepare(advance)
    remarks = check_data(store, data, config)
    with LaunchView(spec) as view:
        for line in remarks:
            view.said(line)
        result = launch(
            spec,
            database=database_url,
            data=data,
            store=store,
            storage_root=root,
            listener=view,
            address=args.address,
            command=args.command,
            remarks=remarks,
        )
    view.print_result(
        result,
        args.command,
        database_url=_shown(args),
        storage=args.storage,
    )
    return {"finished": 0, "failed": _FAILED}.get(result.outcome, 130)


@contextmanager
def _existing(database_url: "DatabaseAddress") -> "Iterator[Database | None]":
    """Open the study database; None where it is still to be made, or to be upgraded by the launch.

    Raises:
        DatabaseAwayError: It is away or locked.
    """
    from searcher.exceptions import DatabaseAwayError, DatabaseError
    from searcher.ledger.database import Database
    from searcher.ledger.patience import Patience

    try:
        opened = Patience(say_problem, threading.Event())(lambda: Database.open(database_url))
    except DatabaseAwayError:
        raise
    except DatabaseError:
        yield None
        return
    with opened:
        yield opened


def _is_done(spec: "StudySpec", database: "Database | None") -> bool:
    if database is None or spec.name not in database.study_names():
        return False
    study = database.study(spec.name)
    return study.num_done >= study.budget


def _shown(args: argparse.Namespace) -> str:
    """Return what to type after `--db`, nothing where the environment or the default says it."""
    return "" if args.db is None else f" --db {args.db}"
