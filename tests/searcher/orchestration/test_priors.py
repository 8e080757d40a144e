"""What is known beforehand of a parameter, and how a sampler makes use of it."""

import math

import numpy as np
import optuna
import pytest
from tiny_study import TINY, tiny

from searcher.exceptions import StudyFileError
from searcher.orchestration.trials.priors import PriorSampler, _Belief, _trust
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.parts import SAMPLERS
from searcher.study.space import Choice, FloatRange, Parameter
from searcher.study.writer import write_study

RATE = "lr = { low = 1e-4, high = 1e-1, log = true"
KNOWN = TINY.replace(RATE, f"{RATE}, prior = 1e-3").replace(
    '["sgd", "adamw"] }\n', '["sgd", "adamw"], prior = "sgd", confidence = "high" }\n', 1
)


def test_a_study_says_its_priors_and_is_written_with_them_and_they_are_part_of_what_it_is():
    spec = tiny(KNOWN)
    rate, name = spec.space["optimizer.lr"], spec.space["optimizer.name"]
    assert (rate.prior, rate.confidence, name.prior, name.confidence) == (1e-3, "medium", "sgd", "high")
    assert tiny(write_study(spec)).space == spec.space
    assert spec.digest() != tiny().digest()
    assert spec.identity()["space.optimizer.lr"]["prior"] == "0.001 medium"
    assert "prior" not in tiny().identity()["space.optimizer.lr"], "digests of studies without stay"


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ("prior = 1.0", "space.optimizer.lr.prior: must be a value that can be drawn (0.0001 .. 0.1 log), got 1.0; "),
        ('prior = "high"', "space.optimizer.lr.prior: must be a value that can be drawn (0.0001 .. 0.1 log), got "),
        ('prior = 1e-3, confidence = "sure"', "space.optimizer.lr.confidence: must be low, medium or high, got "),
        ('confidence = "low"', "space.optimizer.lr.confidence: must be in a prior, got 'low' without one; add prior"),
        ("piror = 1e-3", "space.optimizer.lr.piror: unknown key; did you mean prior?"),
    ],
)  # fmt: skip
def test_a_prior_that_cannot_be_is_one_line(about, problem):
    with pytest.raises(StudyFileError) as error:
        tiny(TINY.replace(RATE, f"{RATE}, {about}"))
    [line] = error.value.problems
    assert line.startswith(f"tiny.toml: {problem}"), line


def searched(name: str, num: int, score, text: str = KNOWN, seed: int = 0) -> list[dict]:
    spec = tiny(text, study__seed=seed, search__sampler=name, search__startup_trials=3)
    sampler = build_sampler(spec, num_trials=0)
    assert isinstance(sampler, PriorSampler)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for _ in range(num):
        trial = study.ask()
        params = spec.space.suggest(trial)
        assert spec.space.contains(params)
        study.tell(trial, score(params))
    return [each.params for each in study.trials]


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_the_first_trial_has_the_priors_and_every_sampler_stays_in_the_space(name):
    proposed = searched(name, 4 if name == "gp" else 12, lambda params: math.log10(params["optimizer.lr"]))
    assert (proposed[0]["optimizer.lr"], proposed[0]["optimizer.name"]) == (pytest.approx(1e-3), "sgd")
    assert "optimizer.momentum" in proposed[0]
    assert len({params["optimizer.lr"] for params in proposed}) > 2


def near_the_prior(proposed: list[dict]) -> float:
    """Return the share of rates within a factor of 10^0.3 of the prior: 20% of the range's places."""
    return float(np.mean([abs(math.log10(params["optimizer.lr"]) + 3) < 0.3 for params in proposed]))


def test_a_prior_that_trials_speak_for_is_drawn_from_and_one_that_they_speak_against_is_not():
    """A fifth of a uniform draw lies that near, and 58% of one around a prior of high confidence. Of 40 proposals,
    about a quarter are drawn from a prior that is right: 0.75 x 0.2 + 0.25 x 0.58 = 0.3 of them lie near."""
    sure = KNOWN.replace("prior = 1e-3", 'prior = 1e-3, confidence = "high"')
    right, wrong = [], []
    for seed in range(5):
        right += searched(
            "random", 40, lambda params: abs(math.log10(params["optimizer.lr"]) + 3), sure, seed
        )
        wrong += searched("random", 60, lambda params: -math.log10(params["optimizer.lr"]), sure, seed)[20:]
    assert near_the_prior(right) == pytest.approx(0.3, abs=0.07)
    assert near_the_prior(wrong) == pytest.approx(0.2, abs=0.06)


def test_the_weight_of_a_prior_is_that_of_the_best_trials_nearness():
    """At one end of a range with the best at the other: the densities are phi(4) and phi(0), both over half a normal.
    Of three choices at odds of 4, another one is best: 1/6 for the prior's list and 4/6 for the best one's."""
    rate = _Belief(Parameter("x", FloatRange(0.0, 1.0), prior=0.0))
    against = math.exp(-8) / (1 + math.exp(-8)) * 2
    assert _trust(rate.evidence(np.array([1.0]))) == pytest.approx(against, rel=1e-3)
    assert _trust(rate.evidence(np.array([0.0]))) == 1.0
    assert _trust(rate.evidence(np.array([math.nan]))) == 1.0, "the best trials lack the parameter"
    choice = _Belief(Parameter("x", Choice(("a", "b", "c")), prior="a"))
    assert _trust(choice.evidence(np.array([1.0]))) == pytest.approx(2 * (1 / 6) / (1 / 6 + 4 / 6))
    narrowed = _Belief(Parameter("x", Choice(("b", "c")), prior="a"))
    assert math.isnan(narrowed.draw(np.random.default_rng(0)))


def test_draws_lie_around_the_prior_as_far_as_the_confidence_says():
    rng = np.random.default_rng(0)
    for confidence, width in (("low", 0.5), ("medium", 0.25), ("high", 0.125)):
        belief = _Belief(Parameter("x", FloatRange(1e-4, 1e-2, log=True), (), 1e-3, confidence))
        drawn = np.array([belief.draw(rng) for _ in range(400)])
        assert (drawn.min() >= 0, drawn.max() <= 1) == (True, True)
        within = 0.683 / 0.954 if width == 0.25 else 0.683  # medium: cut at two standard deviations
        assert np.mean(np.abs(drawn - 0.5) < width) == pytest.approx(
            1.0 if width == 0.5 else within, abs=0.08
        )
