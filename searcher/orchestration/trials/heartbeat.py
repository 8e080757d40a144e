"""A worker's heartbeat: what it does, and for how long that may take, where the driver reads it.

It goes through the key-value store of the Ray cluster's head, which a worker reaches also if its disks hang. A second
thread writes it, so that the trial never waits for the network.
"""

import json
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from searcher.orchestration.ray_internals import forget_key, read_key, write_key
from searcher.training.alive import Doing

__all__ = ["Beat", "Heartbeat", "forget_beat", "read_beat"]

_NAMESPACE = b"searcher"
_WRITE_EVERY_S = 2.0
_OF_SLOWEST = 10.0
"""A wait may take so many times the longest of its kind in the trial so far."""
_OF_FIRST = {"beginning": 6.0, "data": 36.0}
"""Factor on the study's limit for a step that the trial does for the first time. Data may have to be downloaded and
decoded, or a network compiled."""
_OF_ANY_FIRST = 6.0


@dataclass(frozen=True)
class Beat:
    """A heartbeat of a worker: its present action, and how long that may take."""

    count: int
    """How many there were before."""
    detail: str
    """What is done since, for people."""
    limit_s: float
    """Seconds after which the next one is overdue; 0 for a worker that waits for its driver."""
    actor: str
    """Ray's identifier of the worker, in hexadecimal digits."""
    doing: Doing | None = None
    """The kind of what is done; None while it waits for its driver."""
    epoch: int = 0
    """The newest epoch whose value the worker knows, 0 before the first. The driver may not have it yet."""
    value: float | None = None
    """The objective after that epoch."""


class Heartbeat:
    """Writes the heartbeats of one trial; an `Alive`.

    Args:
        number: Number of the trial.
        limit_s: The study's time limit for a step in seconds; 0 for no limit, then nothing is written.
        extra_s: Additional seconds for writing files, because a worker waits for an object store that cannot be
            reached.
    """

    def __init__(self, number: int, limit_s: float, *, extra_s: float = 0.0) -> None:
        self._key = _key(number)
        self._limit_s, self._extra_s = limit_s, extra_s
        self._actor = _actor() if limit_s else ""
        self._longest: dict[str, float] = {}
        self._doing: Doing | None = None
        self._begun_at = 0.0
        self._beat: Beat | None = None
        self._count = 0
        self._epoch = 0
        self._value: float | None = None
        self._written = -1
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if self._actor:
            self._thread = threading.Thread(target=self._keep_writing, name="heartbeat", daemon=True)
            self._thread.start()

    def __call__(self, doing: Doing, detail: str) -> None:
        """Say that what was done is over, and what is done next."""
        now = time.monotonic()
        self._note_time(now)
        has_waited = self._doing is None
        self._doing, self._begun_at = doing, now
        self._next(detail, self.limit_of(doing))
        if has_waited:  # at once: a worker that stops now must not be taken for one that waits for its driver
            self._write()

    def measured(self, epoch: int, value: float) -> None:
        """Include an epoch's value in the next heartbeats: the driver gets the report itself only after later steps.

        Args:
            epoch: Number of the epoch, from 1.
            value: Value of the objective after the epoch.
        """
        self._epoch, self._value = epoch, value

    def wait(self) -> None:
        """Write a heartbeat that says that the worker waits for its driver; immediately, as the wait may be long."""
        self._note_time(time.monotonic())
        self._doing = None
        self._next("waiting for its driver", 0.0)
        self._write()

    def limit_of(self, doing: Doing) -> float:
        """Return the seconds without heartbeat after which an action is taken to hang."""
        longest = self._longest.get(doing)
        if longest is None:
            limit_s = self._limit_s * _OF_FIRST.get(doing, _OF_ANY_FIRST)
        else:
            limit_s = max(self._limit_s, _OF_SLOWEST * longest)
        return limit_s + (self._extra_s if doing == "files" else 0.0)

    def close(self) -> None:
        """Stop writing heartbeats. May be called again."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_WRITE_EVERY_S)

    def _note_time(self, now: float) -> None:
        if self._doing is not None:
            self._longest[self._doing] = max(self._longest.get(self._doing, 0.0), now - self._begun_at)

    def _next(self, detail: str, limit_s: float) -> None:
        self._count += 1
        self._beat = Beat(self._count, detail, limit_s, self._actor, self._doing, self._epoch, self._value)

    def _keep_writing(self) -> None:
        while not self._closed.wait(_WRITE_EVERY_S):
            self._write()

    def _write(self) -> None:
        with self._writing:  # else an older one could come after a newer one
            beat = self._beat
            if beat is None or not self._actor or beat.count <= self._written:
                return
            with suppress(RayError, RuntimeError, OSError):  # the head is away: the next one says it
                text = json.dumps(asdict(beat)).encode()
                write_key(self._key, text, namespace=_NAMESPACE)
                self._written = beat.count


def read_beat(number: int) -> Beat | None:
    """Return a trial's newest heartbeat, for the driver; None if there is none, or the head cannot be reached."""
    with suppress(RayError, RuntimeError, OSError):
        text = read_key(_key(number), namespace=_NAMESPACE)
        return None if text is None else Beat(**json.loads(text))
    return None


def forget_beat(number: int) -> None:
    """Delete a trial's heartbeats, for the driver."""
    if not ray.is_initialized():
        return
    with suppress(RayError, RuntimeError, OSError):
        forget_key(_key(number), namespace=_NAMESPACE)


def _key(number: int) -> bytes:
    """Return where a trial's heartbeat is, of this driver's: other studies' are on the same cluster."""
    return f"heartbeat:{_context().get_job_id() if ray.is_initialized() else ''}:{number}".encode()


def _actor() -> str:
    """Return the identifier of this worker, empty where it is none."""
    return str(_context().get_actor_id() or "") if ray.is_initialized() else ""


def _context() -> Any:
    return ray.get_runtime_context()
