"""`searcher launch`: run a study, or go on with it."""

import argparse
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
    positive_float,
    positive_int,
    ray_address,
    storage_root,
    storage_text,
)
from searcher.cli.streams import say_problem
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from searcher.api.launching import LaunchPlace
    from searcher.cli.launch_view import LaunchView
    from searcher.ledger.address import DatabaseAddress
    from searcher.orchestration.driver import LaunchResult
    from searcher.study.spec import StudySpec

__all__ = ["add_parser"]

_FAILED = 1
"""Exit code of a launch that ended before its budget for a reason of its own."""


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("launch")
    add_training(parser, is_planned=True)
    parser.add_argument("--trials", type=positive_int, metavar="N", help="budget of the study (study.trials)")
    parser.add_argument(
        "--hours",
        type=positive_float,
        metavar="H",
        help="hours of this launch: no trial begins that is not expected to end within them (study.hours)",
    )
    parser.add_argument(
        "--gpu-hours",
        type=positive_float,
        metavar="H",
        help="hours of this launch's trials together, times GPUs of a trial (study.gpu_hours)",
    )
    add_database(parser)
    parser.add_argument(
        "--with-parents",
        action="store_true",
        help="launch the studies that this one comes from first, as far as they are not done; "
        "--trials, --hours, --epochs and --set are about this one alone",
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
    from searcher.study.catalog import load_study

    if args.study is None:
        args.study = _planned(args)
    spec = load_study(args.study, overrides(args))
    args.address = ray_address(args)
    for check in (data_folder, storage_text):  # a key in a URI goes nowhere, not even to a cluster
        check(args)
    command = arguments(args) if args.detach else []  # before the environment's database leaves it
    database_url = database_address(args)
    Database.probe(database_url)
    if args.detach:
        return detach(args, spec, command, database_url)
    place = _place(args, database_url)
    from searcher.api.launching import launch_in_order

    result = launch_in_order(spec, place, _Watcher(args), with_parents=args.with_parents)
    return {"finished": 0, "failed": _FAILED}.get(result.outcome, 130)


def _planned(args: argparse.Namespace) -> str:
    """Return the file of the study that is planned for the data.

    Raises:
        UserError: There is nothing to plan for, or no place for the file.
    """
    if args.detach:
        raise UserError(
            "--detach: must have a study that is written down, got no --study; "
            "write one with searcher plan --data DIR --write FILE, then launch --study FILE"
        )
    from searcher.api.planning import planned_file

    watcher = _Watcher(args)
    return str(
        planned_file(data_folder(args), data_view(args), args.storage, watcher.preparing, watcher.remark)
    )


def _place(args: argparse.Namespace, database_url: "DatabaseAddress") -> "LaunchPlace":
    root = storage_root(args)
    from searcher.api.launching import LaunchPlace

    return LaunchPlace(
        database=database_url,
        data=data_folder(args),
        view=data_view(args),
        storage_root=root,
        address=args.address,
        command=args.command,
    )


class _Watcher:
    """A `LaunchWatcher` that shows a launch in the terminal."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._view: LaunchView | None = None

    def preparing(self) -> "AbstractContextManager[Callable[[int, int], None]]":
        """Show a progress bar."""
        from searcher.cli.terminal import progress_bar

        return progress_bar("preparing images")

    def watching(self, spec: "StudySpec") -> "LaunchView":
        """Show the trials."""
        from searcher.cli.launch_view import LaunchView

        self._view = LaunchView(spec)
        return self._view

    def ended(self, _spec: "StudySpec", result: "LaunchResult") -> None:
        """Print how the launch ended and what to do next."""
        assert self._view is not None
        args = self._args
        self._view.print_result(result, args.command, database_url=_shown(args), storage=args.storage)

    def remark(self, text: str) -> None:
        """Print a line."""
        from searcher.cli.terminal import console

        console.print(text, markup=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        """Print a line to standard error."""
        say_problem(text)


def _shown(args: argparse.Namespace) -> str:
    """Return what to type after `--db`, nothing where the environment or the default says it."""
    return "" if args.db is None else f" --db {args.db}"
