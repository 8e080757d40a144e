"""When another trial is not worth it."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from tiny_study import TINY, tiny

from searcher.exceptions import StudyFileError
from searcher.orchestration.trials.gain import LEAST_TRIALS, expected_gain

SPEC = tiny(TINY, **{"optimizer__name": "adamw"})
"""It searches the rate alone, from 1e-4 to 1e-1."""


def trials(rates, losses, state=TrialState.COMPLETE):
    about = {"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)}
    return [
        create_trial(
            state=state,
            params={"optimizer.lr": float(rate)},
            distributions=about,
            value=float(loss),
            intermediate_values={4: float(loss)},
        )
        for rate, loss in zip(rates, losses, strict=True)
    ]


def test_few_trials_expect_nothing():
    rates = np.geomspace(1e-4, 1e-1, LEAST_TRIALS - 1)
    assert expected_gain(SPEC, trials(rates, rates)) is None
    assert expected_gain(SPEC, [*trials(rates, rates), create_trial(state=TrialState.FAIL)]) is None


def test_the_gain_is_small_at_the_bottom_of_a_valley_and_large_where_the_slope_goes_on():
    """A loss of (log10 lr + 2)^2, lowest at 0.01: seen from all sides there is nothing to gain; if only rates below
    1e-3 were tried, the best has 1, and the slope promises more. Losses in thousandths have gains in thousandths."""
    seen = np.geomspace(1e-4, 1e-1, 25)
    small = expected_gain(SPEC, trials(seen, (np.log10(seen) + 2) ** 2))
    one_side = np.geomspace(1e-4, 1e-3, 25)
    losses = (np.log10(one_side) + 2) ** 2
    large = expected_gain(SPEC, trials(one_side, losses))
    assert 0 < small < 0.01 < 0.3 < large < 3
    assert expected_gain(SPEC, trials(one_side, losses / 1000)) == pytest.approx(large / 1000, rel=0.01)


def test_a_threshold_is_for_a_search_by_one_objective():
    assert tiny(search__stop_if_gain_below=0.002).digest() == tiny().digest(), "may change between launches"
    for overrides in (
        {"study__secondary_objectives": ["object_dice"]},
        {"optimizer__name": "adam", "optimizer__lr": 0.01},
    ):
        with pytest.raises(
            StudyFileError, match="stop_if_gain_below: must be for a search by one objective, got "
        ):
            tiny(search__stop_if_gain_below=0.002, **overrides)
