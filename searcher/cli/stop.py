"""`searcher stop`: end a study's launch from another terminal."""

import argparse
import time
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_database, database_address, positive_int
from searcher.cli.streams import say_problem
from searcher.cli.study_at_work import study_at_work

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.ledger.watch import Launch

__all__ = ["add_parser"]

_DEFAULT_TIMEOUT_S = 600
_POLL_S = 1.0


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "stop",
        help="end a study's launch cleanly; the same launch command goes on with it",
        epilog="Exit code 0: it has ended. 1: it still runs after the timeout, or its driver was lost. 2: none runs.",
    )
    parser.add_argument("--study", required=True, metavar="NAME")
    add_database(parser)
    parser.add_argument(
        "--timeout",
        type=positive_int,
        default=_DEFAULT_TIMEOUT_S,
        metavar="S",
        help=f"seconds to wait for its end; default {_DEFAULT_TIMEOUT_S}",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console
    from searcher.exceptions import UserError
    from searcher.ledger.database import Database
    from searcher.ledger.watch import newest_launch, request_stop

    with Database.open(database_address(args)) as database:
        database.check_writable()
        args.study = study_at_work(database, args.study, even_if_known=True)
        launch = newest_launch(database, args.study)
        if launch is None or not launch.is_running:
            raise UserError(
                f"--study {args.study}: must be running to be stopped; {_what_is(args.study, launch)}"
            )
        request_stop(database, launch.row.id)
        console.print(
            f"{args.study}: asked process {launch.row.pid} on {launch.row.host} to stop; waiting for it, at most "
            f"{args.timeout} s (Ctrl-C stops the waiting, not the request)",
            markup=False,
            soft_wrap=True,
        )
        return _wait(args, database, launch.row.id)


def _wait(args: argparse.Namespace, database: "Database", launch_id: int) -> int:
    """Wait until the launch has ended; say how it went."""
    from searcher.cli.terminal import console, seconds
    from searcher.exceptions import DatabaseAwayError
    from searcher.ledger.watch import newest_launch

    started = time.monotonic()
    is_away = False
    while True:
        try:
            launch = newest_launch(database, args.study, launch_id=launch_id)
            is_away = False
        except DatabaseAwayError as error:
            if not is_away:
                console.print(f"{error}; waiting for it", markup=False, soft_wrap=True)
            is_away = True
        else:
            if launch is None or launch.row.ended_at is not None:
                outcome = "gone" if launch is None else launch.row.outcome
                text = f"{args.study}: {outcome} after {seconds(time.monotonic() - started)}{_progress(args, database)}"
                console.print(text, markup=False, soft_wrap=True)
                return 0
            if launch.driver_is_gone:
                say_problem(f"--study {args.study}: was to stop; {_what_is(args.study, launch)}")
                return 1
        if time.monotonic() - started >= args.timeout:
            say_problem(
                f"--study {args.study}: must have stopped within {args.timeout} s, still runs; it was asked to and "
                "goes on to its next step; wait with searcher stop again"
            )
            return 1
        time.sleep(_POLL_S)


def _progress(args: argparse.Namespace, database: "Database") -> str:
    """Return how far the study is, as far as the database can say."""
    from searcher.exceptions import UserError

    try:
        study = database.study(args.study)
    except UserError:
        return ""
    return f", {study.num_done} of {study.budget} trials done"


def _what_is(study: str, launch: "Launch | None") -> str:
    """Return what is the case where no driver is at work."""
    from searcher.times import local_text

    if launch is None:
        return "it was never launched"
    row = launch.row
    if launch.driver_is_gone:
        return (
            f"its driver, process {row.pid} on {row.host}, is gone without a word; launch again to go on, or mend it "
            f"with searcher doctor --fix --study {study}"
        )
    return f"its last launch ended {local_text(row.ended_at)}, {row.outcome}"
