"""Who hangs is killed after the time that is allowed; who is slow, waits, or had a paused driver is not."""

import time
from dataclasses import replace

import pytest

from searcher.orchestration.trials.hang_watch import HangWatch
from searcher.orchestration.trials.heartbeat import Beat, Heartbeat


class Search:
    """What the watch needs of a search with one trial, number 7."""

    def __init__(self) -> None:
        self.running = {"ray-id": 7}
        self.losses: dict[int, str] = {}

    def expect_loss(self, number: int, why: str) -> None:
        self.losses[number] = why


class Watched:
    """A watch whose clock and whose trial's beats the test sets."""

    def __init__(self, beat: Beat) -> None:
        self.beat, self.now = beat, 0.0
        self.said: list[str] = []
        self.killed: list[str] = []
        self.seen: list[tuple[int, str]] = []
        self.search = Search()
        self.watch = HangWatch(
            self.search,
            self.said.append,
            seen=lambda *what: self.seen.append(what),
            read=lambda _: self.beat,
            kill=self.killed.append,
            clock=lambda: self.now,
        )

    def pass_seconds(self, seconds: float, *, look_every_s: float = 5.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + look_every_s, until)
            self.watch.on_step_end()


def beat(count: int, limit_s: float = 600.0) -> Beat:
    return Beat(count, "epoch 3, step 5 of 40", limit_s, "a1")


def test_a_stopped_heartbeat_is_said_at_half_time_and_killed_once_with_its_reason():
    watched = Watched(beat(5))
    watched.pass_seconds(5)
    watched.pass_seconds(295)
    assert (watched.said, watched.killed) == ([], [])
    watched.pass_seconds(10)
    assert watched.said == [
        "trial 7: no sign of life for 300 s in epoch 3, step 5 of 40; after 600 s its worker is taken for hanging and "
        "killed (resources.hang_timeout_s)"
    ]
    watched.pass_seconds(400)
    assert watched.killed == ["a1"]
    assert watched.search.losses == {
        7: "it hung: no sign of life for 600 s in epoch 3, step 5 of 40, where 600 s are allowed "
        "(resources.hang_timeout_s)"
    }


def test_what_a_trial_does_is_passed_on_and_waiting_is_nothing_to_show():
    watched = Watched(replace(beat(1), doing="validation", epoch=2, value=0.5))
    watched.pass_seconds(5)
    watched.beat = replace(beat(2, 0.0), doing=None)
    watched.pass_seconds(5)
    assert watched.seen == [(7, "validation", 2, 0.5)]


def test_a_slow_trial_goes_on():
    watched = Watched(beat(1))
    for count in range(2, 8):
        watched.pass_seconds(500)
        watched.beat = beat(count)
    watched.pass_seconds(5)
    assert watched.killed == []
    assert watched.said[1::2] == ["trial 7 goes on"] * 6


@pytest.mark.parametrize(
    ("what", "limit_s"), [("a worker that waits for its driver", 0.0), ("an allowed hour", 3600.0)]
)
def test_who_may_wait_is_left_alone(what, limit_s):
    watched = Watched(beat(1, limit_s))
    watched.pass_seconds(1700)
    assert (watched.said, watched.killed) == ([], []), what


def test_the_time_of_a_driver_that_stood_still_does_not_count():
    watched = Watched(beat(1))
    watched.pass_seconds(5)
    watched.pass_seconds(10**6, look_every_s=10**6)  # the machine was paused
    assert watched.killed == []
    watched.search.running = {}
    watched.pass_seconds(10)
    watched.search.running = {"again": 7}
    watched.pass_seconds(590)
    assert watched.killed == [], "a trial that was handed out anew begins anew"


def test_the_limit_follows_from_what_was_done_before(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heartbeat = Heartbeat(0, 100.0, extra_s=300.0)
    assert heartbeat.limit_of("step") == 600.0, "the first: a network may be compiled"
    assert heartbeat.limit_of("data") == 3600.0
    assert heartbeat.limit_of("files") == 900.0, "with the time that an object store is waited for"
    heartbeat("step", "step 1")
    now = 50.0
    heartbeat("step", "step 2")
    assert heartbeat.limit_of("step") == 500.0, "ten times the slowest"
    now = 53.0
    heartbeat("validation", "image 1")
    now = 54.0
    heartbeat("files", "checkpoint")
    assert heartbeat.limit_of("step") == 500.0
    assert heartbeat.limit_of("validation") == 100.0, "the study's, where all is fast"
    assert heartbeat.limit_of("files") == 900.0
    heartbeat.close()
