"""Ending a launch at the request of a person, a batch system or a closing terminal."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from searcher.orchestration.listener import StudyListener

__all__ = ["Stop", "signals_kept", "stop_on_signals"]

_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stop(threading.Event):
    """An event that is set when the launch is to end."""

    is_concluding = False
    """Whether it is being brought to its end. Then no signal breaks in: what runs must be written down."""
    was_signalled = False
    """Whether a person or a batch system asked for that by a signal."""


@contextmanager
def stop_on_signals(listener: StudyListener) -> Iterator[Stop]:
    """Context manager that yields an event which the first SIGINT, SIGTERM or SIGHUP sets.

    A second signal raises KeyboardInterrupt. A signal that is ignored stays ignored: SIGHUP under `nohup`, SIGINT in a
    shell script's background job. Outside the main thread, where Python allows no handlers, signals do not set the
    event.
    """
    stop = Stop()
    num_signals = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal num_signals
        num_signals += 1
        stop.was_signalled = True
        stop.set()
        if stop.is_concluding:
            listener.info(f"{signal.Signals(number).name}: the launch is ending, one moment")
            return
        if num_signals > 1:
            raise KeyboardInterrupt
        listener.info(f"{signal.Signals(number).name}: stopping after this step; again to stop at once")

    before: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for stopping in _STOPPING:
            if signal.getsignal(stopping) is not signal.SIG_IGN:
                before[stopping] = signal.signal(stopping, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Context manager that restores the signal handlers at its end, because Ray installs handlers of its own.

    Ray's first handler turns a SIGTERM into a SystemExit with that number; here it becomes a KeyboardInterrupt. Its
    last handler, in C++, writes a stack trace to the terminal and ends the process at once (2.60).
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _STOPPING if is_main}
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not from Python
                signal.signal(number, handler)
