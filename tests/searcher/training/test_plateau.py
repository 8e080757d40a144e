"""Best value and epochs without improvement."""

import math

import pytest

from searcher.study.objectives import Objective
from searcher.training.plateau import PlateauCounter


@pytest.mark.parametrize(("objective", "sign"), [("loss", 1), ("object_dice", -1)])
def test_only_strict_improvement_resets_the_count(objective, sign):
    counter = PlateauCounter(Objective(objective))
    seen = [counter.update(epoch, sign * value) for epoch, value in enumerate([3, 2, 2, 4, 1], start=1)]
    assert seen == [True, True, False, False, True]
    assert (counter.best_value, counter.best_epoch, counter.num_bad_epochs) == (sign * 1, 5, 0)


def test_nan_is_never_an_improvement_and_never_blocks_one():
    counter = PlateauCounter(Objective("loss"))
    assert not counter.update(1, math.nan)
    assert counter.best_epoch == 0
    assert counter.num_bad_epochs == 1
    assert counter.update(2, 1e9)


def test_restart_keeps_the_best():
    counter = PlateauCounter(Objective("loss"))
    counter.update(1, 1.0)
    counter.update(2, 2.0)
    counter.restart()
    assert counter.num_bad_epochs == 0
    assert not counter.update(3, 1.5)


def test_state_goes_round():
    counter, other = PlateauCounter(Objective("loss")), PlateauCounter(Objective("loss"))
    counter.update(1, 1.0)
    counter.update(2, 2.0)
    other.load_state_dict(counter.state_dict())
    assert other.state_dict() == {"best_value": 1.0, "best_epoch": 1, "num_bad_epochs": 1}
