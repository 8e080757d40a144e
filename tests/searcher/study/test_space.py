"""Drawing from a space with Optuna."""

import optuna
import pytest

from searcher.study.config import TrialConfig
from searcher.study.space import Choice, Condition, FloatRange, IntRange, Parameter, SearchSpace

SPACE = SearchSpace(
    (
        Parameter("optimizer.name", Choice(("sgd", "adam"))),
        Parameter("optimizer.lr", FloatRange(1e-4, 1e-1, log=True)),
        Parameter(
            "optimizer.momentum", FloatRange(0.0, 0.9, step=0.3), (Condition("optimizer.name", ("sgd",)),)
        ),
        Parameter("train.batch_size", IntRange(2, 8, step=2)),
    )
)


def test_draws_stay_in_the_space_and_keep_the_condition():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        params = SPACE.suggest(study.ask())
        assert ("optimizer.momentum" in params) == (params["optimizer.name"] == "sgd")
        assert all(SPACE[name].domain.contains(value) for name, value in params.items())
        seen.add((params["optimizer.name"], params["train.batch_size"]))
    assert seen == {(name, size) for name in ("sgd", "adam") for size in (2, 4, 6, 8)}


def test_an_enqueued_point_is_drawn_as_it_is():
    study = optuna.create_study()
    study.enqueue_trial({"optimizer.name": "adam", "optimizer.lr": 0.05, "train.batch_size": 4})
    assert SPACE.suggest(study.ask()) == {
        "optimizer.name": "adam",
        "optimizer.lr": 0.05,
        "train.batch_size": 4,
    }


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (FloatRange(0.1, 1.0), [0.1, 1, 0.5], [0.0, 1.1, "0.5", True]),
        (FloatRange(0.0, 0.9, step=0.3), [0.0, 0.3, 0.6, 0.9], [0.1, 0.45]),
        (IntRange(2, 8, step=2), [2, 4, 8], [1, 3, 9, 4.0, True]),
        (Choice((1, "a", False)), [1, "a", False], [1.0, True, 0, "b"]),
    ],
)
def test_what_a_domain_contains(domain, inside, outside):
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


def test_configuration_digest_is_one_per_meaning():
    one = TrialConfig.model_validate({"optimizer": {"lr": 0.1}, "train": {"epochs": 3}})
    same = TrialConfig.model_validate({"train": {"epochs": 3}, "optimizer": {"lr": 0.1}})
    other = TrialConfig.model_validate({"train": {"epochs": 4}, "optimizer": {"lr": 0.1}})
    assert one.digest() == same.digest() != other.digest()
    assert TrialConfig.model_validate(one.to_dict()) == one
