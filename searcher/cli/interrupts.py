"""SIGTERM and SIGHUP end what a verb does as Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["signals_interrupt"]


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Context manager in which SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, like Ctrl-C.

    A batch system sends SIGTERM, a closing terminal SIGHUP. A signal that is ignored, such as SIGHUP under `nohup`,
    stays ignored. In another thread than the main one, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {
        number: signal.signal(number, interrupt)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
