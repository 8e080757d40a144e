"""The study that a verb is about; where it is another one than was named, that is said on stderr."""

from typing import TYPE_CHECKING

from searcher.api import at_work
from searcher.cli.streams import say_problem

if TYPE_CHECKING:
    from searcher.ledger.database import Database

__all__ = ["study_at_work"]


def study_at_work(database: "Database", name: str, *, even_if_known: bool) -> str:
    """Return the name of the study whose launch a command concerns, see `searcher.api.at_work`.

    Args:
        database: The study database.
        name: The study that the user named.
        even_if_known: Whether to look for such a launch even if the database has the study but no driver runs it.
    """
    return at_work.study_at_work(database, name, even_if_known=even_if_known, say=say_problem)
