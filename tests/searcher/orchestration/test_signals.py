"""Signals to a launch: the first asks it to end, the second ends it at once, and none breaks into its end."""

import os
import signal
import sys

import pytest
from tiny_study import RecordingListener

from searcher.orchestration.signals import signals_kept, stop_on_signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_asks_and_the_second_raises(number):
    listener = RecordingListener()
    with stop_on_signals(listener) as stop:
        send(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert listener.lines == [
        f"{signal.Signals(number).name}: stopping after this step; again to stop at once"
    ]


@pytest.mark.parametrize("before", [0, 1])
def test_while_the_launch_is_brought_to_its_end_no_signal_raises(before):
    """What runs is being written down: an exception there would leave trials RUNNING."""
    listener = RecordingListener()
    with stop_on_signals(listener) as stop:
        for _ in range(before):
            send(signal.SIGINT)
        stop.is_concluding = True
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert stop.is_set(), "whoever waits for the database waits no longer"
    assert listener.lines[-1] == "SIGTERM: the launch is ending, one moment"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    """SIGHUP under nohup, SIGINT in a script's background job: the launch goes on."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signals(RecordingListener()) as stop:
            send(number)
            assert not stop.is_set()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_handlers_are_put_back():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals(RecordingListener()):
        assert signal.getsignal(signal.SIGINT) is not handlers[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_ray_makes_of_a_sigterm_while_it_starts_is_an_interrupt_and_its_handler_goes():
    def as_ray_does() -> None:
        with signals_kept():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
            send(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        as_ray_does()
    assert signal.getsignal(signal.SIGTERM) is before
