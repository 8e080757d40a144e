"""`searcher logs`: what a launch or a trial has written down, also while it is at it."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.logs import NO_LAUNCH_LOG, log_file, no_log, why_no_trial_log
from searcher.cli.options import (
    Verbs,
    add_address,
    add_database,
    database_address,
    positive_int,
    ray_address,
    trial_number,
)
from searcher.cli.streams import output, say_problem
from searcher.cli.study_at_work import study_at_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.ledger.database import Database
    from searcher.ledger.watch import TrialEnd
    from searcher.orchestration.jobs.submission import Job

__all__ = ["add_parser"]

_POLL_FILE_S = 0.5
_POLL_DATABASE_S = 2.0
_COMPLETE_WITHIN_S = 30.0
"""How long to wait for a job's end after that of its launch."""
_CLUSTER_AWAY_S = 120.0
"""How long a cluster may not answer while its job's log is followed: a head that restarts, a tunnel that broke."""


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "logs",
        epilog="With --follow it ends with the trial, or with the launch, exit code 0; Ctrl-C ends it before, 130.",
    )
    parser.add_argument("--study", required=True, metavar="NAME")
    parser.add_argument("--trial", type=trial_number, metavar="N", help="that trial's log")
    parser.add_argument("--follow", action="store_true", help="go on with what is added")
    parser.add_argument("--lines", type=positive_int, metavar="N", help="begin with the last N lines")
    add_database(parser)
    add_address(
        parser,
        "where a launch is a Ray job and its storage is not in reach here: the cluster, for the job's log",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.ledger.database import Database

    with Database.open(database_address(args)) as database:
        if args.trial is None:
            _show_launches(args, database)
        else:
            _show_trial(args, database)
    return 0


def _show_launches(args: argparse.Namespace, database: "Database") -> None:
    from searcher.ledger.watch import newest_launch
    from searcher.storage.mirror import storage_at
    from searcher.study.layout import LAUNCH_LOG

    row = database.study_row(study_at_work(database, args.study, even_if_known=args.follow))
    launch = newest_launch(database, row.name)
    launch_id = None if launch is None else launch.row.id

    def is_over() -> bool:
        launch = newest_launch(database, row.name, launch_id=launch_id)
        return launch is None or not launch.is_running

    job = None if launch is None else launch.row.job
    if (
        job is not None and args.follow and storage_at(row.storage_root).is_remote
    ):  # there it is a line or two behind
        _show_job(args, database, job, Path(LAUNCH_LOG))
        return
    path = _log(args, row.storage_root, f"{row.name}/{LAUNCH_LOG}")
    if job is not None and not path.parent.is_dir():  # on the cluster's disk, not on this machine's
        _show_job(args, database, job, path)
        return
    if not path.is_file() and not (args.follow and not is_over()):
        raise no_log(f"--study {row.name}", path, NO_LAUNCH_LOG if launch else "it never began")
    _show(path, args, is_over)
    if args.follow and row.name != args.study:
        say_problem(f"{row.name}: over; {args.study} is next: ask again once it has begun")


def _log(args: argparse.Namespace, storage_root: str, name: str) -> Path:
    """Return where a log lies on this machine, fetched again where the storage root is an object store."""
    from searcher.exceptions import UserError
    from searcher.storage.mirror import storage_at

    if args.follow and storage_at(storage_root).is_remote:
        raise UserError(
            f"--follow: must have a log in a folder, got one in {storage_root}, which is brought up to date with "
            "every epoch; ask again without it"
        )
    return log_file(storage_root, name)


def _show_job(args: argparse.Namespace, database: "Database", job: str, path: Path) -> None:
    """Print what the driver of a launch printed, as its cluster has it; with `--follow`, until the job is over."""
    from searcher.escaping import harmless
    from searcher.orchestration.jobs.submission import find_job

    address = ray_address(args)
    if address is None:
        why = f"its driver is Ray job {job}: give the cluster with --address, for what the job printed"
        raise no_log(f"--study {args.study}", path, why)
    log = find_job(address, job)
    output = _Output()
    text = log.read()
    if args.lines is not None:
        text = "".join(text.splitlines(keepends=True)[-args.lines :])
    output.write(harmless(text))
    if args.follow:
        _follow_job(log, lambda: _has_let_go(database, job), lambda text: output.write(harmless(text)))
    output.end_line()


def _follow_job(job: "Job", has_let_go: "Callable[[], bool]", show: "Callable[[str], None]") -> None:
    """Show what a job prints until the cluster says that it is over, and everything is shown.

    Raises:
        ClusterAwayError: The cluster has not answered for long, while the driver is at work for all one knows.
    """
    from searcher.exceptions import ClusterAwayError

    answered, let_go_since = time.monotonic(), None
    while True:
        time.sleep(_POLL_DATABASE_S)
        away = None
        try:
            over = job.is_over()
            show(job.read())  # also what was printed before the end that was just seen
            answered = time.monotonic()
            if over:
                return
        except ClusterAwayError as error:
            away = error
        # The driver gives its launch up before it prints the result; the job ends after that, unless it is lost.
        if not _agrees(has_let_go):
            let_go_since = None
        elif let_go_since is None:
            let_go_since = time.monotonic()
        elif time.monotonic() - let_go_since >= _COMPLETE_WITHIN_S:
            return
        if away is not None and time.monotonic() - answered >= _CLUSTER_AWAY_S:
            raise away


def _has_let_go(database: "Database", job: str) -> bool:
    """Return whether a job's driver holds no launch any more, and will hold no other, for all the database knows."""
    from searcher.ledger.watch import newest_launch_of_job
    from searcher.study.job_names import study_of_job_name

    found = newest_launch_of_job(database, job)
    if found is None:
        return True
    study, launch = found
    if launch.is_running:
        return False
    goes_on = study_of_job_name(job) not in (
        None,
        study,
    )  # to the next of the studies, which may be long in coming
    return not (goes_on and launch.row.outcome in ("finished", "failed"))


def _show_trial(args: argparse.Namespace, database: "Database") -> None:
    from searcher.exceptions import UserError
    from searcher.ledger.watch import newest_launch, trial_end
    from searcher.study.layout import TRIAL_LOG, trial_folder

    row = database.study_row(args.study)
    end = trial_end(database, row.name, args.trial)
    if end is None:
        raise UserError(
            f"--trial {args.trial}: must be a trial of {row.name}; see searcher trials --study {row.name}"
        )
    path = _log(args, row.storage_root, f"{trial_folder(row.name, args.trial)}/{TRIAL_LOG}")

    def is_over() -> bool:
        nonlocal end
        launch = newest_launch(database, row.name)  # before the trial: what it ends is ended by then
        end = trial_end(database, row.name, args.trial)
        return end is None or end.is_finished or launch is None or not launch.is_running

    if not path.is_file() and not (args.follow and not is_over()):
        raise no_log(f"--trial {args.trial}", path, why_no_trial_log(end))
    _show(path, args, is_over)
    end = trial_end(database, row.name, args.trial)
    if end is not None:
        _say_how_it_ended(args, end)


def _show(path: Path, args: argparse.Namespace, is_over: "Callable[[], bool]") -> None:
    """Print the log; with `--follow`, until it is over and everything is printed."""
    from searcher.api.log_file import LogFile

    output = _Output()
    while not path.is_file():  # its writer is about to make it
        if _agrees(is_over) and not path.is_file():
            return
        time.sleep(_POLL_FILE_S)
    with LogFile(path, last_lines=args.lines) as log:
        output.write(log.read())
        looked = float("-inf")
        over = not args.follow
        while not over:
            if time.monotonic() - looked >= _POLL_DATABASE_S:
                over, looked = _agrees(is_over), time.monotonic()
            if not over:
                time.sleep(_POLL_FILE_S)
            output.write(log.read())  # also what was written before the end that was just seen
    output.end_line()


def _agrees(is_over: "Callable[[], bool]") -> bool:
    """Ask the database; while it is away, nothing is over."""
    from searcher.exceptions import DatabaseAwayError

    try:
        return is_over()
    except DatabaseAwayError:
        return False


class _Output:
    """Standard output, whose last line is ended at the end."""

    def __init__(self) -> None:
        self._last = "\n"

    def write(self, text: str) -> None:
        if text:
            output.write(text)
            output.flush()
            self._last = text[-1]

    def end_line(self) -> None:
        if self._last != "\n":
            self.write("\n")


def _say_how_it_ended(args: argparse.Namespace, end: "TrialEnd") -> None:
    from searcher.escaping import one_line

    again = ""
    if end.retry is not None:
        again = f"; tried again as trial {end.retry}: searcher logs --study {args.study} --trial {end.retry}"
    if not end.is_finished and args.follow:
        again = "; its driver is gone: launch again to go on, or fix it with searcher doctor --fix"
    if end.retry is not None or args.follow:
        reason = f" ({end.reason})" if end.reason else ""
        output.write(one_line(f"trial {args.trial} {end.state}{reason}{again}") + "\n")
