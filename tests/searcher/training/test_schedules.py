"""The learning rate at every step, against values worked out by hand."""

import logging
import math

import pytest
import torch

from searcher.study.config import ScheduleConfig
from searcher.study.objectives import Objective
from searcher.training.schedules import LearningRate, cosine_factor, warmup_factor

DICE, LOSS = Objective("object_dice"), Objective("loss")


def learning_rate(config: ScheduleConfig, *, peak=1.0, steps_per_epoch=4, num_epochs=5, objective=DICE):
    return LearningRate(
        config, peak=peak, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs, objective=objective
    )


def test_warmup_is_a_line_that_wastes_no_step_at_zero():
    assert [warmup_factor(t, num_warmup_steps=4) for t in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    )


def test_without_warmup_the_first_step_has_the_peak():
    assert warmup_factor(0, num_warmup_steps=0) == 1.0


def test_cosine_values():
    # (1 + cos(0, 60, 90, 120 degrees)) / 2
    assert [cosine_factor(t, num_steps=6, floor=0.0) for t in (0, 2, 3, 4)] == pytest.approx(
        [1.0, 0.75, 0.5, 0.25]
    )
    assert cosine_factor(3, num_steps=6, floor=0.2) == pytest.approx(0.6)
    assert [cosine_factor(t, num_steps=6, floor=0.2) for t in (6, 7, 100)] == [0.2, 0.2, 0.2]


def test_cosine_agrees_with_pytorch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.3 * 0.1)
    ours = learning_rate(ScheduleConfig(name="cosine", min_lr_fraction=0.1), peak=0.3)
    for step in range(20):
        assert ours.at(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_constant_after_warmup():
    rate = learning_rate(ScheduleConfig(name="constant", warmup_epochs=0.5), peak=0.3)  # 2 steps
    assert [rate.at(t) for t in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert rate.at(19) == 0.3


def test_cosine_begins_where_warmup_ends():
    rate = learning_rate(ScheduleConfig(name="cosine", warmup_epochs=2.0))  # 8 of 20 steps
    assert rate.at(7) == pytest.approx(8 / 9)
    assert rate.at(8) == 1.0
    assert rate.at(14) == pytest.approx(0.5)  # half of the 12 steps left
    assert max(rate.at(t) for t in range(20)) == rate.at(8)


def test_the_rate_reaches_every_group():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [p]} for p in parameters], lr=9.0)
    rate = learning_rate(ScheduleConfig(name="cosine"), peak=2.0)
    assert rate.apply(optimizer, 10) == pytest.approx(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1.0, 1.0])


def rates_after(rate: LearningRate, values: list[float]) -> list[float]:
    rates = []
    for epoch, value in enumerate(values, start=1):
        rate.end_epoch(epoch, value)
        rates.append(rate.at(4 * epoch))
    return rates


PLATEAU = ScheduleConfig(name="plateau", plateau_patience=2, plateau_factor=0.5)


def test_plateau_lowers_after_patience_epochs_and_counts_again():
    values = [0.5, 0.4, 0.5, 0.4, 0.6, 0.6, 0.6]  # equal is no improvement
    assert rates_after(learning_rate(PLATEAU), values) == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_follows_the_direction_of_the_objective():
    falling = [0.5, 0.4, 0.3, 0.2]
    assert rates_after(learning_rate(PLATEAU, objective=LOSS), falling) == [1.0, 1.0, 1.0, 1.0]
    assert rates_after(learning_rate(PLATEAU, objective=DICE), falling) == [1.0, 1.0, 0.5, 0.5]


def test_plateau_stops_at_its_floor():
    config = PLATEAU.model_copy(update={"plateau_patience": 1, "min_lr_fraction": 0.3})
    assert rates_after(learning_rate(config), [0.5, 0.5, 0.5, 0.5]) == pytest.approx([1.0, 0.5, 0.3, 0.3])


def test_plateau_takes_nan_for_no_improvement():
    assert rates_after(learning_rate(PLATEAU), [math.nan, math.nan, math.nan]) == [1.0, 0.5, 0.5]


def test_plateau_does_not_count_epochs_of_warmup():
    config = PLATEAU.model_copy(update={"warmup_epochs": 2.0})
    rate = learning_rate(config)
    assert rates_after(rate, [0.5, 0.4, 0.4, 0.4])[2:] == [1.0, 0.5]


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_only_plateau_depends_on_the_values(name):
    rate = learning_rate(ScheduleConfig(name=name, plateau_patience=1))
    before = [rate.at(t) for t in range(20)]
    rates_after(rate, [0.5, 0.1, 0.1, 0.1])
    assert [rate.at(t) for t in range(20)] == before


def test_a_saved_plateau_goes_on_where_it_was():
    values = [0.5, 0.4, 0.4, 0.4, 0.6, 0.5, 0.5]
    whole = rates_after(learning_rate(PLATEAU), values)
    first, second = learning_rate(PLATEAU), learning_rate(PLATEAU)
    rates_after(first, values[:4])
    second.load_state_dict(first.state_dict())
    assert second.at(16) == whole[3]
    for epoch in (5, 6, 7):
        second.end_epoch(epoch, values[epoch - 1])
        assert second.at(4 * epoch) == whole[epoch - 1]


def test_a_warmup_longer_than_the_training_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        learning_rate(ScheduleConfig(warmup_epochs=5.0), num_epochs=5)
    assert "schedule.warmup_epochs=5" in caplog.text
