"""SIGTERM and SIGHUP as Ctrl-C, unless they are ignored."""

import signal

import pytest

from searcher.cli.interrupts import signals_interrupt

BOTH = [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", BOTH)
def test_the_signal_interrupts_and_its_handler_is_put_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", BOTH)
def test_an_ignored_signal_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals_interrupt():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
