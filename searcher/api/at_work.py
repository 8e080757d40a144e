"""The study to look at: the one that was named, or where its driver is still at work on one that it comes from."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searcher.ledger.database import Database

__all__ = ["study_at_work"]


def study_at_work(database: "Database", name: str, *, even_if_known: bool, say: Callable[[str], None]) -> str:
    """Return the name of the study whose launch a command concerns: usually `name`, or a parent of it.

    A driver started by `launch --detach --with-parents` first runs the parent studies that are missing. All that time
    it is registered under the last study's name. If another study than `name` is returned, a line is logged.

    Args:
        database: The study database.
        name: The study that the user named.
        even_if_known: Whether to look for such a driver even if the database has the study but no driver runs it.
        say: Receives a line that names the other study.
    """
    from searcher.ledger.watch import newest_launch, study_worked_on_for

    if name in database.study_names():
        launch = newest_launch(database, name) if even_if_known else None
        if not even_if_known or (launch is not None and launch.is_running):
            return name
    at_work = study_worked_on_for(database, name)
    if at_work is None or at_work == name:
        return name
    say(f"{name}: its driver is at work on {at_work} first, which this is about")
    return at_work
