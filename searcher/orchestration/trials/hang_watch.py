"""A worker that hangs, on a GPU or a network disk say, is found out, killed, and its trial retried."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray import tune

from searcher.orchestration.ray_internals import kill_worker
from searcher.orchestration.trials.heartbeat import Beat, forget_beat, read_beat
from searcher.training.alive import Doing

__all__ = ["HangWatch"]

_LOOK_EVERY_S = 3.0
_SETTING = "resources.hang_timeout_s"


class _Search(Protocol):
    """What the watch needs of the search."""

    @property
    def running(self) -> Mapping[str, int]:
        """The numbers of the running trials, by Ray's ids."""

    def expect_loss(self, number: int, why: str) -> None:
        """Record why a trial's worker is about to be killed."""


@dataclass
class _Silence:
    """How long a trial has given no new sign of life."""

    beat: Beat
    seconds: float = 0.0
    is_said: bool = False
    is_killed: bool = False


class HangWatch(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Ray Tune callback that kills the worker of a trial without a heartbeat for longer than the worker's own limit.

    Time in which the driver itself stood still, for example on a paused machine, does not count.

    Args:
        search: The search algorithm, which knows the running trials.
        say: Receives a line at half of the limit, and one when a worker is killed.
        seen: Called every few seconds with each trial's present action, its newest measured epoch and the objective
            after that; 0 and None before the first.
        read: Function that returns a trial's newest heartbeat.
        kill: Function that kills the worker with an actor id.
        clock: Function that returns seconds.
    """

    def __init__(
        self,
        search: _Search,
        say: Callable[[str], None],
        *,
        seen: Callable[[int, Doing, int, float | None], None] = lambda *_: None,
        read: Callable[[int], Beat | None] = read_beat,
        kill: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._say, self._seen, self._read, self._clock = search, say, seen, read, clock
        self._kill = kill or _kill
        self._looked_at = clock()
        self._silences: dict[int, _Silence] = {}

    def on_step_end(self, **_: Any) -> None:
        """Check the heartbeats of all running trials every few seconds."""
        now = self._clock()
        passed_s = now - self._looked_at
        if passed_s < _LOOK_EVERY_S:
            return
        self._looked_at = now
        running = set(self._search.running.values())
        self._forget(self._silences.keys() - running)
        for number in sorted(running):
            beat = self._read(number)
            if beat is not None:
                if beat.doing is not None:
                    self._seen(number, beat.doing, beat.epoch, beat.value)
                self._look(number, beat, min(passed_s, 2 * _LOOK_EVERY_S))

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            del self._silences[number]
            forget_beat(number)

    def _look(self, number: int, beat: Beat, passed_s: float) -> None:
        silence = self._silences.get(number)
        if silence is None or silence.beat != beat:
            if silence is not None and silence.is_said:
                self._say(f"trial {number} goes on")
            self._silences[number] = _Silence(beat)
            return
        silence.seconds += passed_s
        if not beat.limit_s or silence.is_killed:
            return
        where = f"no sign of life for {silence.seconds:.0f} s in {beat.detail}"
        if silence.seconds >= beat.limit_s:
            silence.is_killed = True
            self._search.expect_loss(
                number, f"it hung: {where}, where {beat.limit_s:.0f} s are allowed ({_SETTING})"
            )
            self._kill(beat.actor)
        elif silence.seconds >= beat.limit_s / 2 and not silence.is_said:
            silence.is_said = True
            self._say(
                f"trial {number}: {where}; after {beat.limit_s:.0f} s its worker is taken for hanging and killed "
                f"({_SETTING})"
            )


def _kill(actor: str) -> None:
    with suppress(ray.exceptions.RayError, ValueError):  # it has ended meanwhile
        kill_worker(actor)
