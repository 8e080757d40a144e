"""A worker that is gone ends its own trial alone, with one line that says why."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial

from searcher.orchestration.ray_internals import task_failures_turned

__all__ = ["OUT_OF_MEMORY", "cause_of", "each_loss_is_its_trials", "last_error"]

OUT_OF_MEMORY = "out of memory"
"""How the reason of a worker begins that Ray killed for its node's memory."""

_MAX_TEXT = 300
_UNKNOWN = "no reason given"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\b(?:: .*)?")
_SENTENCE = re.compile(r"(?<=\.) ")


@contextmanager
def each_loss_is_its_trials() -> Iterator[None]:
    """Context manager in which an error of an actor fails only the actor's own trial.

    Ray Tune (2.60) would end the whole run if a task of an actor fails with anything but `RayActorError` or
    `RayTaskError`: the `OutOfMemoryError` of its memory monitor, a lost object, a lost owner.
    """
    with task_failures_turned(_as_a_lost_actor):
        yield


def _as_a_lost_actor(actor: Any, exception: Exception) -> Exception:
    if isinstance(exception, RayActorError | RayTaskError):
        return exception  # type: ignore[no-any-return]  # ray ships no types
    if actor is not None:
        with suppress(Exception):  # it is gone already, mostly
            ray.kill(actor)
    lost: Exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
    return lost


def last_error(trial: Trial) -> str:
    """Return the newest error of a trial as Ray Tune reports it, several lines; empty if there is none."""
    try:
        text = Path(trial.error_file).read_text(errors="replace")
    except (OSError, TypeError):
        return ""
    return text.rpartition("Failure # ")[2].partition("\n")[2].strip()


def cause_of(error: str) -> str:
    """Return the reason why a worker was lost, in one line, from Ray's error message.

    Ray puts ids first and the cause last; an exception's text is below its traceback, between colour codes.

    Args:
        error: Ray's error message.
    """
    text = _COLOUR.sub("", error)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if "running low on memory" in text:
        return _shortened(f"{OUT_OF_MEMORY}: Ray killed it, {_memory(text)}")
    _, found, detail = text.partition("Worker exit detail: ")
    if found:
        said = " ".join(_SENTENCE.split(" ".join(detail.split()))[:2])
        return _shortened(f"its process ended: {said}")
    if "Traceback" in text or "creation task" in text or any(line.startswith("  File ") for line in lines):
        return _shortened(_raised(lines))
    died = [line.strip() for line in lines if line.startswith("The actor is dead because")]
    return _shortened(died[-1] if died else lines[-1].strip() if lines else _UNKNOWN)


def _memory(text: str) -> str:
    """Return how much memory there was, from the message of Ray's memory monitor."""
    found = re.search(r"was ([\d.]+) ?GB used / ([\d.]+) ?GB", text)
    return f"as its node had {found[1]} of {found[2]} GB in use" if found else "as its node ran low on memory"


def _raised(lines: list[str]) -> str:
    """Return the exception below the last frame of a traceback."""
    last_frame = max((at for at, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    below = [line.strip() for line in lines[last_frame + 1 :] if not line.startswith(" ")]
    named = [line for line in below if _EXCEPTION.match(line)]
    return (named or below or [lines[-1].strip()])[0]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
