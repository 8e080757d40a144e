"""What a terminal shows during a launch, at any size, and how long the rest is said to take."""

import random
import re
from itertools import pairwise

import pytest
from tiny_study import tiny

from searcher.cli import launch_view
from searcher.cli.launch_view import LaunchView
from searcher.cli.terminal import _Console
from searcher.cli.trial_lines import TrialLine, packed, trial_lines
from searcher.ledger.forecast import Forecast

PARAMS = {
    "optimizer.name": "adamw",
    "optimizer.lr": 0.000312,
    "optimizer.weight_decay": 0.01,
    "model.depth": 4,
    "model.base_channels": 32,
    "model.norm": "batch",
    "augment.preset": "strong",
}


def trials(count: int, *, running: int) -> list[TrialLine]:
    return [
        TrialLine(
            number,
            "TRAINING" if number >= count - running else "COMPLETE",
            3,
            150,
            0.7312,
            61.0,
            {**PARAMS, "model.depth": 3 + number % 3, "optimizer.lr": 1e-4 * (number + 1)},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (60, "199    TRAINING   3/150  0.7312  0:01:01  lr=0.02 depth=4"),
        (50, "199    TRAINING   3/150  0.7312  0:01:01  +2"),
    ],
)
def test_two_hundred_trials_are_one_line_each_the_running_ones_first(width, first):
    """Only the parameters that differ are shown; those that do not fit are counted, none is cut."""
    lines = [line.plain for line in trial_lines(trials(200, running=2), width=width, height=20)]
    assert len(lines) == 20
    assert max(map(len, lines)) <= width
    assert lines[1].split() == first.split()
    assert [int(line.split()[0]) for line in lines[1:-1]] == [*range(199, 181, -1)]
    assert lines[-1] == "and 182 that ended before"


def test_a_running_trial_is_seen_however_many_younger_ones_ended():
    shown = [TrialLine(0, "STARTING", 0, 9, None, 5.0, PARAMS), *trials(50, running=0)[1:]]
    lines = [line.plain for line in trial_lines(shown, width=80, height=6)]
    assert lines[1].split()[:3] == ["0", "STARTING", "0/9"]
    assert [line.split()[0] for line in lines[2:5]] == ["49", "48", "47"]


def test_all_parameters_of_one_trial_are_shown_where_they_fit():
    [_, line] = trial_lines(trials(1, running=1), width=150, height=9)
    assert line.plain.endswith(
        "optimizer=adamw lr=0.0001 weight_decay=0.01 depth=3 base_channels=32 norm=batch preset=strong"
    )
    [_, line] = trial_lines(trials(1, running=1), width=80, height=9)
    assert line.plain.endswith("optimizer=adamw lr=0.0001 +5")


def test_the_footer_keeps_its_parts_whole():
    assert packed(["12 of 40 trials done", "2 running", "best 0.7"], width=31) == [
        "12 of 40 trials done",
        "2 running, best 0.7",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_launch_fits_its_terminal_and_its_footer_stays(monkeypatch, width):
    terminal = _Console(width=width, height=24, force_terminal=True)
    monkeypatch.setattr(launch_view, "console", terminal)
    view = LaunchView(tiny(study__trials=200))
    view.study_opened(budget=200, num_done=0, best=None, spent_s=3600.0)
    for number in range(60):
        view.trial_started(number, PARAMS, first_epoch=0, num_epochs=150)
        view.epoch_done(number, 1, 0.5)
        if number < 58:
            view.trial_ended(number, "COMPLETE", value=0.5 + number / 1000, reason="done")
    with terminal.capture() as captured:
        terminal.print(view._render())
    lines = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).rstrip("\n").split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert lines[2].split()[:2] == ["59", "TRAINING"]
    assert "58 of 200 trials done, 2 running" in " ".join(lines)
    assert "1:00:00 so far" in " ".join(lines)
    assert "best loss 0.5000 (trial 0)" in " ".join(lines)


def test_a_trial_says_what_it_does_and_a_queued_one_takes_no_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr(launch_view.time, "monotonic", lambda: now)
    view = LaunchView(tiny())
    view.trial_started(0, PARAMS, first_epoch=0, num_epochs=3)
    seen = []
    for doing in (None, "beginning", "data", "step", "validation", "files", "tuning", "pictures"):
        now += 10.0
        if doing is not None:
            view.trial_does(0, doing, 0, None)
        with (terminal := _Console(width=100, force_terminal=True)).capture() as captured:
            terminal.print(view._render())
        line = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).split("\n")[2].split()
        seen.append((line[1], line[3]))
    assert seen == [
        ("QUEUED", "0:00:10"),
        ("STARTING", "0:00:00"),
        ("STARTING", "0:00:10"),
        ("TRAINING", "0:00:20"),
        ("VALIDATING", "0:00:30"),
        ("TRAINING", "0:00:40"),
        ("TUNING", "0:00:50"),
        ("TUNING", "0:01:00"),
    ]
    view.trial_ended(0, "COMPLETE", value=0.5, reason="epochs")
    view.trial_does(0, "step", 3, 0.4)  # of a beat from before
    assert view._trials[0].state == "COMPLETE"


def test_without_a_terminal_every_epoch_is_a_line(monkeypatch, capsys):
    view = LaunchView(tiny())
    monkeypatch.setattr(launch_view, "console", _Console(width=160))
    view.trial_started(0, PARAMS, first_epoch=0, num_epochs=3)
    view.epoch_done(0, 2, 0.25)
    assert capsys.readouterr().out == "trial 0 epoch 2/3 loss 0.2500\n"


def test_the_last_epoch_is_shown_once_and_before_the_trial_is_tuned(monkeypatch, capsys):
    view = LaunchView(tiny())
    monkeypatch.setattr(launch_view, "console", _Console(width=160))
    view.trial_started(0, PARAMS, first_epoch=0, num_epochs=3)
    view.epoch_done(0, 2, 0.25)
    view.trial_does(0, "tuning", 3, 0.125)
    assert capsys.readouterr().out.splitlines() == [
        "trial 0 epoch 2/3 loss 0.2500",
        "trial 0 epoch 3/3 loss 0.1250",
    ]
    view.epoch_done(0, 3, 0.125)
    assert capsys.readouterr().out == ""


def test_the_time_left_is_that_of_the_epochs_over_the_places():
    """Two at a time, five trials of 3 epochs of 10 s each: 5 x 3 x 10 / 2 = 75 s from the first second on."""
    forecast = Forecast()
    for number in (0, 1):
        forecast.started(number, first_epoch=0, num_epochs=3, now=0.0)
    assert forecast.left_s(5, 5.0) is None
    for number in (0, 1):
        forecast.epoch_done(number, 1, 10.0)
    assert forecast.left_s(5, 10.0) == pytest.approx((2 * 2 + 3 * 3) * 10 / 2)
    assert forecast.left_s(5, 14.0) == pytest.approx((2 * 2 + 3 * 3) * 10 / 2 - 4)


def test_the_last_trial_alone_takes_its_own_time():
    """Four places help one running trial nothing."""
    forecast = Forecast()
    for number in range(4):
        forecast.started(number, first_epoch=0, num_epochs=4, now=0.0)
        forecast.epoch_done(number, 1, 10.0)
    for number in range(3):
        forecast.ended(number, 10.0, is_done=True)
    assert forecast.left_s(1, 10.0) == pytest.approx(30.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_time_left_does_not_rise_while_epochs_take_what_they_took(seed):
    """A launch of 30 trials at two places, of which most are pruned at their first or third epoch, is replayed."""
    chance = random.Random(seed)
    forecast = Forecast()
    free_at = [0.0, 0.0]
    events = []
    for number in range(30):
        place = free_at.index(min(free_at))
        begins = free_at[place]
        last = chance.choice([1, 1, 3])
        events.append((begins, 0, number, 0))
        events += [(begins + 10.0 * epoch, 1, number, epoch) for epoch in range(1, last + 1)]
        events.append((begins + 10.0 * last, 2, number, 0))
        free_at[place] += 10.0 * last
    num_done, said = 0, []
    for now, kind, number, epoch in sorted(events, key=lambda event: (event[0], (event[1] - 1) % 3)):
        if kind == 0:
            forecast.started(number, first_epoch=0, num_epochs=9, now=now)
        elif kind == 1:
            forecast.epoch_done(number, epoch, now)
        else:
            forecast.ended(number, now, is_done=True)
            num_done += 1
        if kind == 0 and (left := forecast.left_s(30 - num_done, now)) is not None:
            said.append(now + left)
    assert all(later <= 1.05 * earlier for earlier, later in pairwise(said)), "but for a trial above the mean"
    assert said[-1] >= max(free_at)
    assert said[0] > 1.5 * said[-1]
