"""`searcher launch --detach`: hand a launch to a cluster, see it begin, and leave."""

import argparse
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import data_folder, data_view_words, database_option, storage_text
from searcher.exceptions import UserError
from searcher.settings import read_setting
from searcher.storage.mirror import cache_dir

if TYPE_CHECKING:
    from searcher.ledger.address import DatabaseAddress
    from searcher.orchestration.jobs.submission import Job
    from searcher.study.spec import StudySpec

__all__ = ["arguments", "detach"]

_MLFLOW = "MLFLOW_TRACKING_URI"
_BEGINS_WITHIN_S = 60.0
_POLL_S = 0.5


def detach(
    args: argparse.Namespace, spec: "StudySpec", command: list[str], database_url: "DatabaseAddress"
) -> int:
    """Submit a launch as a Ray job, wait until its driver runs or has failed, and return the exit code.

    Args:
        args: The parsed arguments of `searcher launch`.
        spec: The study.
        command: Arguments for the job's `searcher`, from `arguments`.
        database_url: Address of the database for this process; it may hold a password, unlike the job's command.

    Returns:
        0 if the driver runs; its exit code if it has ended already.

    Raises:
        UserError: The cluster refuses the job, or the study is running already.
    """
    if args.address is None:
        raise UserError(
            "--detach: must have a cluster to run on; give --address HOST:PORT or http://HOST:8265, or set RAY_ADDRESS"
        )
    from searcher.orchestration.jobs.submission import submit

    _refuse_if_running(spec.name, database_url)
    _say_what_is_not_passed_on()
    variables = {"SEARCHER_CACHE": str(cache_dir())} if read_setting("SEARCHER_CACHE") else {}
    job = submit(args.address, spec.name, command, variables)
    _say(f"{spec.name}: submitted as Ray job {job.id} to {job.dashboard}; waiting for its driver")
    state, code = _wait(job, spec.name, database_url)
    if code is not None:
        for line in job.read().rstrip().splitlines():
            _say(line)
        _say(f"{spec.name}: {state}")
        return code
    if state is not None:
        _say(f"{spec.name}: {state}")
    else:
        _say(
            f"{spec.name}: its driver has not begun the study within {_BEGINS_WITHIN_S:.0f} s; it may prepare images, "
            "or wait for nodes; until it has:"
        )
        _say(f"  ray job logs {job.id} --follow --address {job.dashboard}")
        _say(f"  ray job stop {job.id} --address {job.dashboard}")
        _say("when it has:")
    # Also while its parents run, see `study_at_work`.
    # `database_option` would not know `SEARCHER_DB` any more, which has left the environment.
    about = f"--study {spec.name} --db {shlex.quote(command[command.index('--db') + 1])}"
    _say(f"  searcher status {about}")
    _say(f"  searcher logs {about} --follow --address {args.address}")
    _say(f"  searcher stop {about}")
    return 0


def arguments(args: argparse.Namespace) -> list[str]:
    """Return the command-line arguments with which a process in another folder launches the same study.

    Raises:
        UserError: The database's URL contains a password.
    """
    study = str(Path(args.study).absolute()) if args.study.endswith(".toml") else args.study
    words = ["launch", "--study", study, "--db", database_option(args)]
    words += ["--storage", storage_text(args)]
    if args.data is not None:
        words += ["--data", str(data_folder(args))]
    words += data_view_words(args)
    for option, value in (
        ("--trials", args.trials),
        ("--hours", args.hours),
        ("--gpu-hours", args.gpu_hours),
        ("--epochs", args.epochs),
    ):
        words += [] if value is None else [option, str(value)]
    for setting in args.settings:
        words += ["--set", setting]
    for plugin in args.plugins:
        words += ["--plugin", plugin]
    return words + (["--with-parents"] if args.with_parents else [])


def _say(text: str) -> None:
    from searcher.cli.terminal import console

    console.print(text, markup=False, soft_wrap=True)


def _say_what_is_not_passed_on() -> None:
    """Say that MLflow's settings stay here: a password may be among them, and a job's environment is no secret."""
    if os.environ.get(_MLFLOW):
        _say(
            f"{_MLFLOW}: is set here, but does not reach the driver, whose job everybody on the cluster can read; for "
            "a copy in MLflow set it where `ray start --head` runs, with --num-cpus=0 if there is a password, which "
            "trials there could read"
        )


def _refuse_if_running(study: str, database_url: "DatabaseAddress") -> None:
    from searcher.exceptions import DatabaseAwayError, DatabaseError
    from searcher.ledger.database import Database
    from searcher.ledger.lease import Lease

    try:
        database = Database.open(database_url)
    except DatabaseAwayError:
        raise
    except DatabaseError:  # not there yet
        return
    with database:
        if study in database.study_names():
            Lease.refuse_if_held(database, study)


def _wait(job: "Job", study: str, database_url: "DatabaseAddress") -> tuple[str | None, int | None]:
    """Return what became of a job by now, None if its driver has not begun, and its exit code if it has ended."""
    give_up_at = time.monotonic() + _BEGINS_WITHIN_S
    while time.monotonic() < give_up_at:
        if job.is_over():
            code = job.exit_code()
            return f"job {job.id} has ended", 1 if code is None else code
        at_work = _study_at_work(job.id, database_url)
        if at_work is not None:
            where = "" if at_work == study else f" on {at_work}, which it comes from"
            return f"its driver is at work{where}", None
        time.sleep(_POLL_S)
    return None, None


def _study_at_work(job: str, database_url: "DatabaseAddress") -> str | None:
    """Return the study whose launch the job's driver holds, its own or one it comes from; None if none yet."""
    from searcher.exceptions import DatabaseError
    from searcher.ledger.database import Database
    from searcher.ledger.watch import newest_launch_of_job

    try:
        with Database.open(database_url) as database:
            found = newest_launch_of_job(database, job)
    except DatabaseError:  # its driver is about to make it
        return None
    return None if found is None else found[0]
