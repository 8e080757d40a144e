"""Importances: what decides is found, what does not is not."""

import random

from searcher.lineage.importance import importances
from searcher.study.reader import parse_study
from searcher.study.refine import Tried

SPACE = parse_study(
    """
[study]
name = "s"
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 1e-5, high = 1.0, log = true }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
weight_decay = { low = 1e-8, high = 1e-1, log = true }
""",
    source="s.toml",
).space


def trials(count: int) -> list[Tried]:
    """Only the learning rate decides, and among sgd's the momentum a little."""
    chance = random.Random(0)
    found = []
    for number in range(count):
        rate = chance.uniform(-5, 0)
        params = {
            "optimizer.name": "sgd" if number % 2 else "adam",
            "optimizer.lr": 10**rate,
            "optimizer.weight_decay": 10 ** chance.uniform(-8, -1),
        }
        value = -abs(rate + 2)
        if number % 2:
            params["optimizer.momentum"] = chance.uniform(0, 0.9)
        found.append(Tried(number=number, params=params, value=value))
    return found


def test_what_decides_is_found():
    shares = importances(SPACE, trials(80), "maximize")
    assert set(shares) == {"optimizer.name", "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"}
    assert shares["optimizer.lr"] > 0.6
    assert (
        max(shares["optimizer.name"], shares["optimizer.weight_decay"], shares["optimizer.momentum"]) < 0.25
    )
    assert all(0 <= share <= 1 for share in shares.values())


def test_few_trials_say_nothing_and_pruned_ones_do_not_count():
    few = trials(14)
    assert "optimizer.momentum" not in importances(SPACE, few, "maximize"), "seven have it"
    unfinished = [Tried(number=each.number, params=each.params, value=None) for each in few]
    assert importances(SPACE, unfinished, "maximize") == {}


def test_a_parameter_that_never_changed_has_no_importance():
    alike = [
        Tried(number=each.number, params=each.params | {"optimizer.weight_decay": 1e-4}, value=each.value)
        for each in trials(20)
    ]
    assert importances(SPACE, alike, "maximize")["optimizer.weight_decay"] == 0.0
