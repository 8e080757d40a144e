"""Ending a study's launch from another process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from searcher.api.at_work import study_at_work
from searcher.exceptions import DatabaseAwayError, SearcherError, UserError

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.ledger.watch import Launch

__all__ = ["DEFAULT_TIMEOUT_S", "StoppedLaunch", "stop_launch"]

DEFAULT_TIMEOUT_S = 600
"""How long to wait for the end of a launch where nobody says."""
_POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class StoppedLaunch:
    """The result of stopping a launch: its outcome, and how many trials are done."""

    study: str
    """Whose launch it was: the one that was named, or one that it comes from."""
    outcome: str
    """`interrupted`; `finished` or `failed` where it came to its end first; `gone` where the study was deleted."""
    waited_s: float
    """Seconds from the request to the end."""
    num_done: int | None
    """Trials that are done; None where the database cannot say."""
    budget: int | None
    """Trials that the study has."""


def stop_launch(
    database: "Database",
    name: str,
    *,
    timeout_s: float,
    asked: Callable[[str], None],
    problem: Callable[[str], None],
) -> StoppedLaunch:
    """Ask the driver of a study's launch to end it, wait until it has ended, and return the result.

    Args:
        database: The study database, which is written to.
        name: Name of the study.
        timeout_s: Longest time to wait, in seconds.
        asked: Receives lines: which process got the request, or that the database cannot be reached.
        problem: Receives a line if the driver is running another study.

    Raises:
        UserError: No launch of the study is running.
        SearcherError: The launch still runs after the timeout, or its driver was lost.
    """
    from searcher.ledger.watch import newest_launch, request_stop

    database.check_writable()
    study = study_at_work(database, name, even_if_known=True, say=problem)
    launch = newest_launch(database, study)
    if launch is None or not launch.is_running:
        raise UserError(f"--study {study}: must be running to be stopped; {_what_is(study, launch)}")
    request_stop(database, launch.row.id)
    asked(
        f"{study}: asked process {launch.row.pid} on {launch.row.host} to stop; waiting for it, at most "
        f"{timeout_s:g} s (Ctrl-C stops the waiting, not the request)"
    )
    return _wait(database, study, launch.row.id, timeout_s, asked)


def _wait(
    database: "Database", study: str, launch_id: int, timeout_s: float, asked: Callable[[str], None]
) -> StoppedLaunch:
    from searcher.ledger.watch import newest_launch

    started = time.monotonic()
    is_away = False
    while True:
        try:
            launch = newest_launch(database, study, launch_id=launch_id)
            is_away = False
        except DatabaseAwayError as error:
            if not is_away:
                asked(f"{error}; waiting for it")
            is_away = True
        else:
            if launch is None or launch.row.ended_at is not None:
                outcome = "gone" if launch is None else str(launch.row.outcome)
                return _stopped(database, study, outcome, time.monotonic() - started)
            if launch.driver_is_gone:
                raise SearcherError(f"--study {study}: was to stop; {_what_is(study, launch)}")
        if time.monotonic() - started >= timeout_s:
            raise SearcherError(
                f"--study {study}: must have stopped within {timeout_s:g} s, still runs; it was asked to and "
                "goes on to its next step; wait with searcher stop again"
            )
        time.sleep(_POLL_S)


def _stopped(database: "Database", study: str, outcome: str, waited_s: float) -> StoppedLaunch:
    try:
        record = database.study(study)
    except UserError:
        return StoppedLaunch(study=study, outcome=outcome, waited_s=waited_s, num_done=None, budget=None)
    return StoppedLaunch(
        study=study, outcome=outcome, waited_s=waited_s, num_done=record.num_done, budget=record.budget
    )


def _what_is(study: str, launch: "Launch | None") -> str:
    """Return what is the case where no driver is at work."""
    from searcher.times import local_text

    if launch is None:
        return "it was never launched"
    row = launch.row
    if launch.driver_is_gone:
        return (
            f"its driver, process {row.pid} on {row.host}, is gone without a word; launch again to go on, or fix it "
            f"with searcher doctor --fix --study {study}"
        )
    return f"its last launch ended {local_text(row.ended_at)}, {row.outcome}"
