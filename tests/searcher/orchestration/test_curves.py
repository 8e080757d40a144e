"""What stopped trials would have reached; expected values by hand."""

import math

import numpy as np
import pytest

from searcher.orchestration.trials.curves import predicted_finals, running_best


def test_the_best_so_far_skips_gaps_and_what_is_not_finite_and_ends_with_the_trial():
    stopped = running_best({1: 0.2, 2: math.nan, 4: 0.1}, 6, is_whole=False)
    np.testing.assert_equal(stopped, [0.2, 0.2, 0.2, 0.2, math.nan, math.nan])
    whole = running_best({1: 0.2, 3: 0.5}, 5, is_whole=True)  # it stopped by itself: a plateau
    np.testing.assert_equal(whole, [0.2, 0.2, 0.5, 0.5, 0.5])
    assert np.isnan(running_best({}, 3, is_whole=False)).all()


def rows(*curves: list[float], num_epochs: int = 4) -> np.ndarray:
    return np.array([[*curve, *[math.nan] * (num_epochs - len(curve))] for curve in curves])


def test_a_stopped_trial_gains_the_median_of_what_those_that_went_on_gained_level_by_level():
    # Levels 1, 2 and 4. From 1 to 2: .1, .2, .3, .1, median .15; from 2 to 4: .1, .2, .4, median .2.
    best = rows([0.1, 0.2, 0.3, 0.3], [0.1, 0.3, 0.4, 0.5], [0.1, 0.4, 0.5, 0.8], [0.2, 0.3], [0.3])
    values, deviations = predicted_finals(best)
    np.testing.assert_allclose(values, [0.3, 0.5, 0.8, 0.3 + 0.2, 0.3 + 0.15 + 0.2])
    # The deviation is 1.4826 times the median of |.1 - .15|, |.2 - .15|, |.3 - .15|, |.1 - .15|, which is .05, and of
    # |.1 - .2|, |.2 - .2|, |.4 - .2|, which is .1.
    later = 1.4826 * 0.1
    np.testing.assert_allclose(deviations, [0, 0, 0, later, math.hypot(1.4826 * 0.05, later)])


def test_before_any_trial_went_on_a_stopped_one_keeps_its_value_and_is_uncertain_by_half_their_spread():
    values, deviations = predicted_finals(rows([0.2], [0.4]))
    np.testing.assert_allclose(values, [0.2, 0.4])
    np.testing.assert_allclose(deviations, [0.05, 0.05])


def test_between_two_levels_a_trial_gains_a_part_on_the_logarithmic_scale():
    # Levels 1, 5 and 8: 4 is too near 5. All but one of five trials gain .5 from 1 to 5.
    whole = [[0.0] * 4 + [0.5] * 4] * 4
    [*_, value], _ = predicted_finals(rows(*whole, [0.5] * 5, [0.1] * 4, num_epochs=8))
    assert value == pytest.approx(0.1 + 0.5 * math.log(5 / 4) / math.log(5 / 1))


def test_a_trial_without_a_value_has_no_prediction():
    values, deviations = predicted_finals(rows([0.1, 0.2, 0.3, 0.4], []))
    assert np.isnan(values[1])
    assert np.isnan(deviations[1])
