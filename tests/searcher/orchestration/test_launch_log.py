"""The launch's log holds what the terminal showed, over all launches, and never stops a launch."""

import re

import pytest
from tiny_study import RecordingListener

from searcher.exceptions import SearcherError
from searcher.orchestration.launch_log import LaunchLog


def speak(log: LaunchLog) -> None:
    log.study_opened(budget=4, num_done=1, best=0.5, spent_s=60.0, earlier=[(4, 9.0)])
    log.trial_started(1, {"optimizer.lr": 0.01}, first_epoch=2, num_epochs=4)
    log.epoch_done(1, 3, 0.25)
    log.trial_ended(1, "COMPLETE", value=0.25, reason="epochs")
    log.info("the database is back after 63 s, going on")


def test_what_is_heard_is_written_with_its_time_and_passed_on(tmp_path):
    path, heard = tmp_path / "s" / "launch.log", RecordingListener()
    with LaunchLog(path, heard) as log:
        log.note("DATA: patients are unknown")
        speak(log)
        log.ended("finished", None)
    lines = path.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ ", line) for line in lines)
    assert [line.partition("Z ")[2] for line in lines] == [
        "DATA: patients are unknown",
        "launched: 1 of 4 trials done, best 0.5",
        "trial 1 started, goes on after epoch 2 of 4: optimizer.lr=0.01",
        "trial 1 epoch 3: 0.25",
        "trial 1 COMPLETE 0.25: epochs",
        "the database is back after 63 s, going on",
        "finished",
    ]
    assert heard.opened == {"budget": 4, "num_done": 1, "best": 0.5, "spent_s": 60.0, "earlier": [(4, 9.0)]}
    assert heard.epochs == [(1, 3)]
    assert heard.lines == [
        "start 1 after 2",
        "COMPLETE 1: epochs",
        "the database is back after 63 s, going on",
    ]


def test_the_next_launch_goes_on_in_the_same_file_and_a_launch_that_breaks_off_says_why(tmp_path):
    path = tmp_path / "launch.log"
    with LaunchLog(path, RecordingListener()) as log:
        log.info("one")
    log = LaunchLog(path, RecordingListener())
    log.info("two")
    with pytest.raises(SearcherError), log:
        raise SearcherError("it broke\noff")
    assert [line.partition("Z ")[2] for line in path.read_text().splitlines()] == [
        "one",
        "two",
        "broke off: SearcherError: it broke off",
    ]


def test_a_log_that_cannot_be_written_is_said_once_and_what_happens_is_still_passed_on(tmp_path):
    (tmp_path / "file").touch()
    heard = RecordingListener()
    with LaunchLog(tmp_path / "file" / "launch.log", heard) as log:
        speak(log)
    assert heard.epochs == [(1, 3)]
    assert len([line for line in heard.lines if "cannot be written" in line]) == 1


def test_a_launch_that_is_refused_writes_nothing(tmp_path):
    with pytest.raises(SearcherError), LaunchLog(tmp_path / "s" / "launch.log", RecordingListener()):
        raise SearcherError("refused")
    assert list(tmp_path.iterdir()) == []
