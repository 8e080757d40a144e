"""Signs of life from inside an epoch: what a trial does next, said after every step."""

from typing import Literal, Protocol

__all__ = ["Alive", "Doing", "silent"]

Doing = Literal["beginning", "epoch", "data", "building", "step", "validation", "files", "tuning", "pictures"]
"""Kind of what is being done until the next sign: those of one kind take about the same time."""


class Alive(Protocol):
    """A function that is called while a trial runs, to show that it is alive.

    The trainer's thread calls it after every step, so it must return at once.
    """

    def __call__(self, doing: Doing, detail: str) -> None:
        """Take in what is done next.

        Args:
            doing: Its kind.
            detail: For people: `epoch 3, step 5 of 40`.
        """
        ...


def silent(doing: Doing, detail: str) -> None:
    """Do nothing: the default for callers that need no sign of life."""
