"""`searcher launch --detach`: hand a launch to a cluster, see it begin, and leave."""

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import data_folder, database_option, storage_text
from searcher.exceptions import UserError
from searcher.storage.mirror import cache_dir

if TYPE_CHECKING:
    from searcher.orchestration.jobs import Job
    from searcher.study.spec import StudySpec

__all__ = ["arguments", "detach"]

_BEGINS_WITHIN_S = 60.0
_POLL_S = 0.5


def detach(args: argparse.Namespace, spec: "StudySpec", command: list[str], database_url: str) -> int:
    """Submit a launch and wait until its driver is at work, or has refused to be.

    Args:
        args: Of `searcher launch`.
        spec: The study.
        command: The arguments of the job's `searcher`, from `arguments`.
        database_url: For this process, which may know more than the job's command says.

    Returns:
        0 when the driver is at work; its own exit code when it has ended by then.

    Raises:
        UserError: The cluster does not take it, or the study runs already.
    """
    if args.address is None:
        raise UserError(
            "--detach: must have a cluster to run on; give --address HOST:PORT or http://HOST:8265, or set RAY_ADDRESS"
        )
    from searcher.cli.terminal import console
    from searcher.orchestration.jobs import submit

    _refuse_if_running(spec.name, database_url)
    variables = {"SEARCHER_CACHE": str(cache_dir())} if os.environ.get("SEARCHER_CACHE") else {}
    job = submit(args.address, spec.name, command, variables)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(f"{spec.name}: submitted as Ray job {job.id} to {job.dashboard}; waiting for its driver")
    state, code = _wait(job, database_url)
    if code is not None:
        say(job.read().rstrip())
        say(f"{spec.name}: {state}")
        return code
    about = f"--study {spec.name} --db {database_option(args)}"
    say(f"{spec.name}: {state}")
    say(f"  searcher status {about}")
    say(f"  searcher logs {about} --follow --address {args.address}")
    say(f"  searcher stop {about}")
    return 0


def arguments(args: argparse.Namespace) -> list[str]:
    """Return what a process in another folder has to be told to launch the same.

    Raises:
        UserError: The database's URL holds a password.
    """
    study = str(Path(args.study).absolute()) if args.study.endswith(".toml") else args.study
    words = ["launch", "--study", study, "--db", database_option(args)]
    words += ["--storage", storage_text(args)]
    if args.data is not None:
        words += ["--data", str(data_folder(args))]
    for option, value in (("--trials", args.trials), ("--epochs", args.epochs)):
        words += [] if value is None else [option, str(value)]
    for setting in args.settings:
        words += ["--set", setting]
    return words + (["--with-parents"] if args.with_parents else [])


def _refuse_if_running(study: str, database_url: str) -> None:
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


def _wait(job: "Job", database_url: str) -> tuple[str, int | None]:
    """Return what became of a job by now, and its exit code if it has ended."""
    give_up_at = time.monotonic() + _BEGINS_WITHIN_S
    while time.monotonic() < give_up_at:
        if job.is_over():
            code = job.exit_code()
            return f"job {job.id} has ended", 1 if code is None else code
        if _is_at_work(job.id, database_url):
            return "its driver is at work", None
        time.sleep(_POLL_S)
    return f"its driver has not begun within {_BEGINS_WITHIN_S:.0f} s; it may prepare images", None


def _is_at_work(job: str, database_url: str) -> bool:
    """Return whether the job's driver holds a launch: the study's own, or that of one it comes from."""
    from searcher.exceptions import DatabaseError
    from searcher.ledger.database import Database
    from searcher.ledger.watch import launch_of_job

    try:
        with Database.open(database_url) as database:
            return launch_of_job(database, job) is not None
    except DatabaseError:  # its driver is about to make it
        return False
