"""The sampler `fast-gp` over conditional spaces, and that every sampler that learns does so from stopped trials."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tiny_study import tiny

from searcher.orchestration.trials.encoding import Encoding
from searcher.orchestration.trials.fast_gp import FastGPSampler, _log_expected_improvement, _standardised
from searcher.orchestration.trials.known_trials import STD, KnownTrials
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.parts import SAMPLERS
from searcher.study.space import Choice, Condition, FloatRange, IntRange, Parameter, SearchSpace

SPACE = SearchSpace(
    (
        Parameter("name", Choice(("sgd", "adam"))),
        Parameter("lr", FloatRange(1e-4, 1e-1, log=True)),
        Parameter("momentum", FloatRange(0.0, 0.9), when=(Condition("name", ("sgd",)),)),
        Parameter("depth", IntRange(2, 6, step=2)),
        Parameter("width", IntRange(4, 64, log=True)),
        Parameter("flag", Choice((True, False))),
    )
)


def test_a_configuration_becomes_a_point_and_is_itself_again():
    encoding = Encoding(SPACE)
    params = {"name": "sgd", "lr": 1e-3, "momentum": 0.45, "depth": 4, "width": 16, "flag": False}
    [point] = encoding.points([params])
    np.testing.assert_allclose(point, [0, 1 / 3, 0.5, 0.5, 0.5, 1])
    again = encoding.params(point)
    assert again == pytest.approx(params)
    assert (type(again["depth"]), type(again["flag"])) == (int, bool)
    [without] = encoding.points([{"name": "adam", "lr": 1e-1, "depth": 6, "width": 64, "flag": True}])
    np.testing.assert_equal(without, [1, 1, math.nan, 1, 1, 0])


def test_two_choices_are_one_apart_and_what_is_not_searched_is_in_the_middle():
    encoding = Encoding(SPACE)
    columns = encoding.columns(
        encoding.snapped(np.array([[0, 0.2, 0.3, 0.6, 0.5, 0], [1, 0.2, 0.3, 0.5, 0.5, 0]]))
    )
    assert np.linalg.norm((columns[0] - columns[1])[:2]) == pytest.approx(1)
    assert columns[:, 3].tolist() == [0.3, 0.5], "the momentum of adam"
    assert columns[:, 4].tolist() == [0.5, 0.5], "depth is 2, 4 or 6"


def test_expected_improvement_is_exact_near_and_smooth_far_away():
    z = np.array([0.0, 1.0, -4.999999, -5.000001, -30.0])
    found = _log_expected_improvement(z)
    phi = math.exp(-0.5) / math.sqrt(2 * math.pi)
    assert found[:2] == pytest.approx(
        [math.log(1 / math.sqrt(2 * math.pi)), math.log(phi + 0.8413447460685429)]
    )
    assert found[2] == pytest.approx(found[3], abs=0.02)
    assert np.isfinite(found).all()


def test_the_loss_of_a_diverged_trial_is_cut_and_a_poor_value_of_a_settled_search_is_not():
    losses = np.array([-1.0, -2.0, -3.0, -4.0, -1e10])
    values, *_ = _standardised(losses, np.zeros(5))
    cut = np.array(
        [-1.0, -2.0, -3.0, -4.0, -33.0]
    )  # the median less 10 times from -1 to the lower quartile, -4
    assert values == pytest.approx((cut - cut.mean()) / cut.std())
    settled = np.array([0.5, 0.6, 0.7, 0.9, 0.9, 0.9, 0.9])
    values, spreads, _ = _standardised(settled, np.full(7, 0.1))
    assert values == pytest.approx((settled - settled.mean()) / settled.std())
    assert spreads == pytest.approx(0.1 / settled.std())


def score(params) -> float:
    """Best at lr 0.01 with SGD of momentum 0.6; 0 there."""
    away = abs(math.log10(params["lr"]) + 2) + (0.0 if params["name"] == "sgd" else 1.0)
    return -away - abs(params.get("momentum", 0.6) - 0.6) - 0.05 * abs(params["depth"] - 4)


def searched(num: int, *, startup: int = 6) -> list[dict]:
    study = optuna.create_study(
        direction="maximize", sampler=FastGPSampler(SPACE, n_startup_trials=startup, seed=3)
    )
    for _ in range(num):
        trial = study.ask()
        params = SPACE.suggest(trial)
        assert SPACE.contains(params)
        study.tell(trial, score(params))
    return [trial.params for trial in study.trials]


def test_it_proposes_points_of_the_space_and_finds_a_conditional_optimum():
    found = searched(40)
    assert max(map(score, found)) > -0.2
    assert max(map(score, found[:6])) < -0.3, "it had to be searched for"
    assert {params["name"] for params in found} == {"sgd", "adam"}


def test_the_same_seed_proposes_the_same():
    assert searched(9) == searched(9)


def test_trials_that_run_at_the_same_time_are_not_the_same():
    study = optuna.create_study(
        direction="maximize", sampler=FastGPSampler(SPACE, n_startup_trials=4, seed=0)
    )
    for _ in range(8):
        trial = study.ask()
        study.tell(trial, score(SPACE.suggest(trial)))
    rates = [SPACE.suggest(study.ask())["lr"] for _ in range(4)]
    assert len(set(rates)) == 4


def test_several_objectives_are_searched_for_compromises_between_them():
    """Each is best at one end of the learning rate, and all rates are compromises; momentum 0.6 is better for both."""
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=FastGPSampler(SPACE, n_startup_trials=6, seed=0)
    )
    for number in range(30):
        trial = study.ask()
        params = SPACE.suggest(trial)
        away = abs(params.get("momentum", 0.0) - 0.6) + (params["name"] == "adam")
        cost = math.inf if number == 2 else -math.log10(params["lr"]) + away
        study.tell(trial, (-math.log10(params["lr"]) - away, cost))
    later = [trial.params for trial in study.trials[18:]]
    assert sum(params["name"] == "sgd" and abs(params["momentum"] - 0.6) < 0.2 for params in later) >= 6
    rates = [math.log10(params["lr"]) for params in later]
    assert max(rates) - min(rates) > 1


def known(name: str, **settings) -> KnownTrials:
    spec = tiny(search__sampler=name, search__startup_trials=3)
    return KnownTrials(
        spec.space,
        build_sampler(spec, num_trials=0),
        stopped=SAMPLERS[name].stopped,
        directions=["maximize"],
        num_epochs=9,
        grace_epochs=2,
        **settings,
    )


@pytest.mark.parametrize(
    ("name", "num"), [("tpe", 8), ("gp", 4), ("cmaes", 12), ("fast-gp", 5), ("random", 6)]
)
def test_every_sampler_that_learns_does_so_from_stopped_trials(name, num):
    """No trial comes to its end. Two histories whose values are opposite part after the trials at random."""

    def history(sign: float) -> list:
        trials, proposed = known(name), []
        for _ in range(num):
            number, params = trials.ask()
            proposed.append(tuple(sorted(params.items())))
            value = sign * (math.log10(params["optimizer.lr"]) + params.get("optimizer.momentum", 0.0))
            trials.ended(number, TrialState.PRUNED, (), {1: value - 1, 2: value})
        return proposed

    up, down = history(1.0), history(-1.0)
    assert up[:3] == down[:3]
    assert (up == down) == (name == "random")


def test_a_stopped_trials_value_follows_from_those_that_went_on_and_is_revised():
    trials = known("gp")
    first, _ = trials.ask()
    trials.ended(first, TrialState.PRUNED, (), {1: 0.1, 2: 0.3, 3: math.nan})
    trials.ask()
    assert trials.study.trials[first].value == 0.3
    for gain in (0.1, 0.2, 0.4):
        number, _ = trials.ask()
        trials.ended(number, TrialState.COMPLETE, (0.5 + gain,), {1: 0.2, 2: 0.5, 9: 0.5 + gain})
    trials.ask()
    revised = trials.study.trials[first]
    assert revised.state == TrialState.COMPLETE
    assert revised.value == pytest.approx(0.3 + 0.2)
    assert revised.user_attrs[STD] == pytest.approx(1.4826 * 0.1)


def test_a_running_trial_counts_with_its_predicted_value_from_the_first_rung_on():
    trials = known("fast-gp")
    for gain in (0.1, 0.2, 0.4):
        number, _ = trials.ask()
        trials.ended(number, TrialState.COMPLETE, (0.5 + gain,), {1: 0.2, 2: 0.5, 9: 0.5 + gain})
    running, _ = trials.ask()
    trials.reached(running, {1: 0.3})
    assert trials.study.trials[running].state == TrialState.RUNNING, "the first rung is after 2 epochs"
    trials.reached(running, {1: 0.3, 2: 0.4})
    trials.ask()
    assert trials.study.trials[running].value == pytest.approx(0.4 + 0.2)
    assert trials.study.trials[running].user_attrs[STD] == pytest.approx(1.4826 * 0.1)
    trials.reached(running, {1: 0.3, 2: 0.4, 3: 0.7})
    trials.ask()

    assert trials.study.trials[running].value == pytest.approx(0.7 + 0.2), "the others still had 0.5 then"


@pytest.mark.parametrize(
    ("state", "values", "expected"),
    [
        (TrialState.COMPLETE, (0.6,), (TrialState.COMPLETE, 0.6)),
        (TrialState.PRUNED, (), (TrialState.COMPLETE, 0.5)),
        (TrialState.FAIL, (), (TrialState.FAIL, None)),
    ],
)
def test_the_end_of_a_trial_replaces_its_prediction(state, values, expected):
    trials = known("fast-gp")
    number, _ = trials.ask()
    trials.reached(number, {1: 0.1, 2: 0.3})
    trials.ask()
    trials.ended(number, state, values, {1: 0.1, 2: 0.3, 3: 0.5})
    trials.ask()
    told = trials.study.trials[number]
    assert (told.state, told.value) == expected
    assert state == TrialState.FAIL or told.user_attrs[STD] == 0.0, "nothing is known yet of further gains"


@pytest.mark.parametrize("name", ["tpe", "fast-gp"])
def test_a_trial_that_has_ended_is_the_same_whether_it_is_added_or_was_followed(name):
    ends = [
        (TrialState.COMPLETE, (0.7,), {1: 0.2, 2: 0.7}),
        (TrialState.PRUNED, (), {1: 0.4, 2: 0.3}),
        (TrialState.PRUNED, (), {1: math.nan}),
        (TrialState.FAIL, (), {1: 0.5}),
    ]
    added, followed = known(name), known(name)
    for state, values, curve in ends:
        _, params = known(name).ask()
        added.add(params, state, values, curve)
        followed.ended(followed.began(params), state, values, curve)
    for trials in (added, followed):
        trials.ask()
    told = [
        [(each.state, each.value, each.params, each.user_attrs) for each in trials.study.trials[:4]]
        for trials in (added, followed)
    ]
    assert told[0] == told[1]
    assert [state for state, *_ in told[0]] == [
        TrialState.COMPLETE,
        TrialState.PRUNED if name == "tpe" else TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.FAIL,
    ]


def test_a_sampler_that_takes_trials_as_they_are_is_told_nothing_of_running_ones():
    trials = known("tpe")
    number, _ = trials.ask()
    trials.reached(number, {1: 0.1, 2: 0.3})
    assert trials.study.trials[number].state == TrialState.RUNNING


def test_a_trial_that_failed_or_never_had_a_value_is_no_example():
    trials = known("gp")
    for state, curve in [
        (TrialState.FAIL, {1: 0.5}),
        (TrialState.PRUNED, {1: math.nan}),
        (TrialState.PRUNED, {}),
    ]:
        number, _ = trials.ask()
        trials.ended(number, state, (), curve)
        assert trials.study.trials[number].state == TrialState.FAIL
