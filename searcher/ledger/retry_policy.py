"""Waiting for a database that is away: a restart, a cut network, a lock that another process holds."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from searcher.exceptions import DatabaseAwayError

__all__ = ["RetryPolicy"]

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
DEFAULT_LIMIT_S = 24 * 3600.0
"""A driver gives up after a day. After a longer outage, launch the study again."""


class RetryPolicy:
    """Repeats a step until the database can be reached again.

    Args:
        say: Receives a line when the database cannot be reached, and one when it is back.
        stop: Event that is set when the user ends the launch; then the waiting ends at once.
        before_again: Called when the database seems to be back, before the step is repeated; an error that it raises
            ends the waiting. After a long outage, another driver may have the study.
        limit_s: Longest time to wait, in seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        stop: threading.Event,
        *,
        before_again: Callable[[], None] = lambda: None,
        limit_s: float = DEFAULT_LIMIT_S,
    ) -> None:
        self._say = say
        self._stop = stop
        self._before_again = before_again
        self._limit_s = limit_s
        self._is_trying = False

    def __call__(self, act: Callable[[], _T]) -> _T:
        """Return the result of `act`; call it again as long as the database is away.

        `act` must come to the same end when a first call was written down and its confirmation lost. A call within
        `act` does not wait itself: the outermost begins again. Not to be used from several threads.

        Raises:
            DatabaseAwayError: Still away when the limit is reached or the launch is to end.
            Exception: The error of `act` or `before_again`.
        """
        if self._is_trying:
            return act()
        self._is_trying = True
        try:
            return self._try(act)
        finally:
            self._is_trying = False

    def _try(self, act: Callable[[], _T]) -> _T:
        away_since: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if away_since is not None:
                    self._before_again()
                result = act()
            except DatabaseAwayError as error:
                if away_since is None:
                    away_since = time.monotonic()
                    self._say(f"{error}; waiting for it, nothing is lost")
                if self._stop.is_set() or time.monotonic() - away_since > self._limit_s:
                    raise
                self._stop.wait(pause_s)
                pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
            else:
                if away_since is not None:
                    self._say(f"the database is back after {time.monotonic() - away_since:.0f} s, going on")
                return result
