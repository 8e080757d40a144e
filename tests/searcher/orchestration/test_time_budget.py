"""Which trials may begin within the hours of a launch, and what is said of it, by hand calculations."""

import pytest
from tiny_study import tiny

from searcher.exceptions import StudyFileError, UserError
from searcher.ledger.forecast import Forecast
from searcher.orchestration.trials.time_budget import TimeBudget, check_gpu_hours


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def budget(forecast: Forecast, clock: Clock, *, gpus: float = 0.0, **study: object) -> TimeBudget:
    spec = tiny(**{f"study__{key}": value for key, value in study.items()})
    return TimeBudget(spec, gpus=gpus, forecast=forecast, began=0.0, clock=clock)


def whole_trials(forecast: Forecast, count: int, *, epochs: int = 4, epoch_s: float = 90.0) -> None:
    """Train trials of the tiny study's 4 epochs one after the other, from second 0 on."""
    for number in range(count):
        start = number * epochs * epoch_s
        forecast.started(number, first_epoch=0, num_epochs=4, now=start)
        for epoch in range(1, epochs + 1):
            forecast.epoch_done(number, epoch, start + epoch * epoch_s)
        forecast.ended(number, start + epochs * epoch_s, is_done=True)


def test_a_trial_begins_if_it_can_end_within_the_hours():
    """360 s a trial, one place: of an hour, ten of them fit. After nine 360 s are left, after ten none."""
    forecast, clock = Forecast(), Clock()
    within = budget(forecast, clock, hours=1)
    assert within.refusal(1) is None, "nothing is measured: as many begin as there are places"
    whole_trials(forecast, 9)
    clock.now = 9 * 360.0
    assert within.refusal(1) is None
    clock.now += 1.0
    assert within.refusal(1) == "study.hours=1: another trial takes about 0:06:00, 0:05:59 are left"
    clock.now = 3601.0
    assert within.refusal(1) == "study.hours=1: another trial takes about 0:06:00, none is left"


def test_the_time_of_a_trial_that_would_have_to_wait_for_a_place_counts():
    """The one that runs has 3 of its 4 epochs of 90 s left; the next would end 270 + 360 s from now."""
    forecast, clock = Forecast(), Clock()
    within = budget(forecast, clock, hours=(90 + 270 + 360) / 3600)
    forecast.started(0, first_epoch=0, num_epochs=4, now=0.0)
    assert within.refusal(1) == "no epoch has been measured yet"
    forecast.epoch_done(0, 1, 90.0)
    clock.now = 90.0
    assert within.refusal(1) is None
    clock.now = 89.0
    assert budget(forecast, clock, hours=(90 + 270 + 358) / 3600).refusal(1) is not None
    assert budget(forecast, clock, hours=(90 + 270 + 358) / 3600).refusal(2) is None, "a place is free"


def test_trials_that_were_stopped_early_shorten_what_is_expected_of_the_next():
    """Three of 1 epoch and a pseudo-trial of 4 for the place: (3 x 1 + 4) / 4 x 90 s = 157.5 s."""
    forecast, clock = Forecast(), Clock()
    whole_trials(forecast, 3, epochs=1)
    assert forecast.trial_s(4) == pytest.approx(157.5)
    clock.now = 270.0
    assert budget(forecast, clock, hours=428 / 3600).refusal(1) is None
    assert budget(forecast, clock, hours=427 / 3600).refusal(1) is not None


def test_hours_of_gpus_count_each_trial_and_what_running_ones_will_take():
    """Half a GPU a trial, so 0.1 GPU hours are 720 s of trials; 360 are spent, 270 more are promised to the one that
    runs, and 90 are left: enough for none of 360 s."""
    forecast, clock = Forecast(), Clock()
    whole_trials(forecast, 1)
    forecast.started(1, first_epoch=0, num_epochs=4, now=360.0)
    clock.now = 360.0
    within = budget(forecast, clock, gpus=0.5, gpu_hours=0.1)
    assert within.refusal(2) == "study.gpu_hours=0.1: another trial takes about 0:06:00, none is left"
    assert budget(forecast, clock, gpus=0.5, gpu_hours=0.2).refusal(2) is None
    forecast.epoch_done(1, 1, 450.0)
    forecast.ended(1, 450.0, is_done=False)
    clock.now = 500.0
    assert forecast.spent_s(500.0) == 450.0, "a failed trial was paid for too"


def test_epochs_of_earlier_launches_count_until_this_one_has_a_whole_trial():
    forecast = Forecast()
    for _ in range(5):
        forecast.earlier(4, 40.0)
    forecast.earlier(0, 3.0)  # one that failed in its first epoch
    assert (forecast.epoch_s, forecast.trial_s(4)) == (10.0, 40.0)
    forecast.started(0, first_epoch=0, num_epochs=4, now=0.0)
    forecast.epoch_done(0, 1, 20.0)
    assert forecast.epoch_s == pytest.approx((200 + 20) / 21)
    for epoch in (2, 3, 4):
        forecast.epoch_done(0, epoch, 20.0 * epoch)
    assert forecast.epoch_s == 20.0


def test_waiting_for_a_place_is_no_part_of_an_epoch():
    forecast = Forecast()
    forecast.started(0, first_epoch=0, num_epochs=4, now=0.0)
    forecast.begun(0, 500.0)
    forecast.epoch_done(0, 1, 510.0)
    forecast.begun(0, 511.0)  # heartbeats go on
    forecast.epoch_done(0, 2, 520.0)
    assert forecast.epoch_s == 10.0
    assert forecast.spent_s(520.0) == 20.0


def test_the_forecast_names_epochs_trials_and_what_the_hours_are_enough_for():
    """8 more trials of 360 s, two at a time, take 1440 s. Half an hour from second 360 on holds 2 x 1440 / 360 = 8."""
    forecast, clock = Forecast(), Clock()
    assert budget(forecast, clock, hours=1).outlook(8, 2) is None
    whole_trials(forecast, 1)
    clock.now = 360.0
    said = (
        "forecast: an epoch takes 90 s, a trial 4 epochs on average; 8 trials at 2 a time take about 0:24:00"
    )
    assert budget(forecast, clock).outlook(8, 2) == said
    within = budget(forecast, clock, gpus=1.0, hours=0.5, gpu_hours=0.35)
    assert within.outlook(8, 2) == f"{said}; 0.5 h and 0.35 GPU hours are enough for about 2 of them"
    assert budget(forecast, clock, hours=0.5).outlook(8, 2) == f"{said}; 0.5 h are enough for about 8 of them"


def test_hours_of_gpus_for_trials_without_one_are_refused():
    with pytest.raises(
        UserError, match=r"^study.gpu_hours: must have trials on GPUs, got 2 for trials on CPUs alone; "
    ):
        check_gpu_hours(tiny(study__gpu_hours=2), 0.0)
    check_gpu_hours(tiny(study__gpu_hours=2), 0.5)
    check_gpu_hours(tiny(study__hours=2), 0.0)


def test_hours_are_no_part_of_what_a_study_means_and_negative_ones_are_refused():
    assert tiny(study__hours=2, study__gpu_hours=1).digest() == tiny().digest()
    with pytest.raises(StudyFileError, match=r"^--hours: must be greater than or equal to 0, got -1"):
        tiny(study__hours=-1)
