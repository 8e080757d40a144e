"""What a narrowed study tries next, on a real database with made-up trials."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from new_database import new_database
from stored_study import StoredStudy

from searcher.ledger.database import Database
from searcher.ledger.records import TrialRecord
from searcher.orchestration.trials.proposer import Proposer

NARROWED = """
[study]
name = "s"
objective = "object_dice"
trials = 20
[search]
startup_trials = 3
[space.optimizer]
name = { choices = ["adam"], original_range = ["sgd", "adam"] }
lr = { low = 0.005, high = 0.02, log = true, original_range = [0.001, 0.1] }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with new_database(tmp_path / "s.db") as opened:
        yield opened


def stored(database: Database, folder: Path, text: str = NARROWED, **overrides: object) -> StoredStudy:
    return StoredStudy(database, folder, text=text, **overrides)


def run(study: StoredStudy, proposer: Proposer, count: int, value=lambda params: 0.5) -> list[dict]:
    """Run as many trials to their end and return their notes and parameters."""
    found = []
    for _ in range(count):
        number, params = study.ledger.begin_trial(range(1000), proposer)
        score = value(params)
        study.ledger.report(number, 1, {"object_dice": score, "seconds_per_image": 0.1})
        study.ledger.complete(number, score, best_epoch=1, stop_reason="epochs")
        found.append({"params": params, **study.ledger.trial(number).user_attrs})
    return found


def imported(number: int, lr: float, value: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="COMPLETE",
        params={"optimizer.name": "adam", "optimizer.lr": lr},
        value=value,
        values=(value,),
        epochs={1: {"object_dice": value}},
        notes={},
    )


def test_a_tenth_of_the_trials_look_anywhere_the_others_stay_inside(database, tmp_path):
    study = stored(database, tmp_path)
    trials = run(study, Proposer(study.ledger, []), 20)
    assert [trial["region"] for trial in trials].count("whole") == 2
    box, whole = study.spec.space.narrow(), study.spec.space.widened()
    for trial in trials:
        assert (box if trial["region"] == "narrow" else whole).contains(trial["params"])
    for trial in study.ledger.optuna_study.trials:
        assert trial.distributions["optimizer.lr"].low == 0.001, "Optuna's tables have the whole space"


@pytest.mark.parametrize(("explore", "expected"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_how_many_explore_is_the_study_files(database, tmp_path, explore, expected):
    study = stored(database, tmp_path, search__exploration=explore, study__trials=8)
    trials = run(study, Proposer(study.ledger, []), 8)
    assert [trial["region"] for trial in trials].count("whole") == expected


def test_a_relaunch_does_not_explore_again(database, tmp_path):
    study = stored(database, tmp_path, search__exploration=0.25, study__trials=8)
    first = run(study, Proposer(study.ledger, []), 5)
    rest = run(study, Proposer(study.ledger, []), 3)
    assert [trial["region"] for trial in first + rest].count("whole") == 2


def test_a_sequence_of_points_goes_on_after_a_relaunch(database, tmp_path):
    """Sobol points of a narrowed study were proposed again, so that a relaunch ended as if the space were exhausted."""
    study = stored(database, tmp_path, search__sampler="qmc", search__exploration=0.0)
    trials = run(study, Proposer(study.ledger, []), 4) + run(study, Proposer(study.ledger, []), 4)
    assert len({trial["params"]["optimizer.lr"] for trial in trials}) == 8


def test_queued_trials_go_first(database, tmp_path):
    study = stored(database, tmp_path)
    point = {"optimizer.name": "adam", "optimizer.lr": 0.0123}
    study.ledger.enqueue([point])
    [first, second] = run(study, Proposer(study.ledger, []), 2)
    assert first["params"] == point
    assert "region" not in first
    assert second["params"] != point


def test_the_sampler_learns_from_the_parents_trials(database, tmp_path):
    """Good at the lower end alone: with that known beforehand, proposals crowd there; without, they begin at random."""
    study = stored(database, tmp_path, search__exploration=0.0)
    known = [imported(n, 0.005 * 4 ** (n / 29), value=1 - n / 29) for n in range(30)]
    informed = run(study, Proposer(study.ledger, known), 8, value=lambda p: 1 - p["optimizer.lr"] * 50)
    rates = [trial["params"]["optimizer.lr"] for trial in informed]
    assert sorted(rates)[5] < 0.0085, rates  # three in four in the lower third of the logarithmic range
    assert not {0.005 * 4 ** (n / 29) for n in range(30)} & set(rates), "none of theirs is tried again"


def test_the_sampler_learns_from_the_studys_own_trials_of_an_earlier_launch(database, tmp_path):
    study = stored(database, tmp_path, search__exploration=0.0, study__trials=60)
    score = lambda params: 1 - params["optimizer.lr"] * 50  # noqa: E731
    run(study, Proposer(study.ledger, []), 25, value=score)
    later = run(study, Proposer(study.ledger, []), 8, value=score)
    assert sorted(trial["params"]["optimizer.lr"] for trial in later)[5] < 0.0085


BRED = """
[study]
name = "s"
objective = "object_dice"
trials = 30
[search]
sampler = "cmaes"
startup_trials = 2
[space.optimizer]
lr = { low = 0.001, high = 0.1, log = true }
weight_decay = { low = 1e-6, high = 1e-2, log = true }
"""


def test_a_sampler_goes_on_from_the_generations_of_an_earlier_launch(database, tmp_path):
    """CMA-ES has generations of 4 + 3 ln 2 = 6 trials; it writes no pickle into the database."""
    study = stored(database, tmp_path, text=BRED)
    score = lambda params: 1 - params["optimizer.lr"]  # noqa: E731
    first = run(study, Proposer(study.ledger, []), 9, value=score)
    assert [trial.get("sampler") for trial in first] == [None] * 2 + [{"cma:generation": 0}] * 6 + [
        {"cma:generation": 1}
    ]
    [later] = run(study, Proposer(study.ledger, []), 1, value=score)
    assert later["sampler"] == {"cma:generation": 1}


FEW = """
[study]
name = "s"
objective = "object_dice"
trials = 20
[search]
sampler = "random"
exploration = 0.0
[space.model]
norm = { choices = ["batch"], original_range = ["none", "batch"] }
"""


def test_a_space_whose_every_point_the_parent_has_tried_is_no_crash(database, tmp_path):
    """The one point that there is is proposed all the same; that it is equal to another is for the search to see."""
    study = stored(database, tmp_path, text=FEW)
    known = imported(0, 0.01, 0.5)
    known = replace(known, params={"model.norm": "batch"})
    trials = run(study, Proposer(study.ledger, [known]), 3)
    assert [trial["params"] for trial in trials] == [{"model.norm": "batch"}] * 3


SEVERAL = """
[study]
name = "s"
objective = "object_dice"
secondary_objectives = ["seconds_per_image"]
trials = 20
[search]
startup_trials = 3
[space.optimizer]
lr = { low = 0.001, high = 0.1, log = true }
"""


def test_several_objectives_with_pruned_and_failed_trials_among_them(database, tmp_path):
    study = stored(database, tmp_path, text=SEVERAL)
    proposer = Proposer(study.ledger, [])
    for n in range(12):
        number, params = study.ledger.begin_trial(range(1000), proposer)
        dice, seconds = 1 - params["optimizer.lr"], 0.01 / params["optimizer.lr"]
        study.ledger.report(number, 1, {"object_dice": dice, "seconds_per_image": seconds})
        if n % 4 == 1:
            study.ledger.prune(number, 1)
        elif n % 4 == 2:
            study.ledger.fail(number, "a test", retry=False)
        else:
            study.ledger.complete(number, dice, best_epoch=1, stop_reason="epochs")
    trials = database.trials("s")
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    assert len(complete) == 6
    for trial in complete:
        assert trial.values == pytest.approx(
            (1 - trial.params["optimizer.lr"], 0.01 / trial.params["optimizer.lr"])
        )
        assert trial.value == trial.values[0]
    pruned = [trial for trial in trials if trial.state == "PRUNED"]
    assert [trial.value for trial in pruned] == [trial.epochs[1]["object_dice"] for trial in pruned]


def test_a_compromise_that_was_never_measured_is_the_worst(database, tmp_path):
    study = stored(database, tmp_path, text=SEVERAL)
    number, _ = study.ledger.begin_trial(range(1000), Proposer(study.ledger, []))
    study.ledger.report(number, 1, {"object_dice": 0.5})
    study.ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    assert database.trials("s")[0].values == (0.5, float("inf"))
