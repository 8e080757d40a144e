"""Choosing among candidates by the mean of several runs."""

import pytest

from searcher.exceptions import StudyFileError
from searcher.study.objectives import Objective
from searcher.study.reader import parse_study
from searcher.study.rerank import standings
from searcher.study.spec import Candidate

CANDIDATES = [Candidate(trial=n, value=value, params={}) for n, value in ((4, 0.95), (9, 0.90), (2, 0.85))]


def test_the_best_mean_wins_with_its_interval_and_its_drop_by_hand():
    values = {4: [0.80, 0.70, 0.90], 9: [0.84, 0.86, 0.85]}
    first, second, third = standings(CANDIDATES, values, Objective("object_dice"))
    assert (first.trial, first.mean, first.drop) == (9, pytest.approx(0.85), pytest.approx(0.05))
    # Student's t, two degrees of freedom: 4.303 * 0.01 / sqrt(3).
    assert first.half_width == pytest.approx(0.024843, abs=1e-5)
    assert (second.trial, second.mean, second.drop) == (4, pytest.approx(0.80), pytest.approx(0.15))
    assert (third.trial, third.mean, third.half_width, third.drop) == (2, None, None, None)


def test_less_is_better_where_it_is_minimized_and_one_run_has_no_interval():
    first, second, _ = standings(CANDIDATES, {4: [0.3], 9: [0.2]}, Objective("loss"))
    assert (first.trial, second.trial, first.half_width) == (9, 4, None)


def test_one_lucky_run_does_not_beat_three():
    values = {4: [0.99], 9: [0.84, 0.86, 0.85]}  # two of trial 4's runs failed
    assert [each.trial for each in standings(CANDIDATES, values, Objective("object_dice"))] == [9, 4, 2]


def test_the_interval_of_many_runs_is_students_too():
    [first, *_] = standings(CANDIDATES, {4: [0.0, 1.0] * 6}, Objective("object_dice"))
    # 11 degrees of freedom: 2.20099 (printed tables), times 0.522233 / sqrt(12).
    assert first.half_width == pytest.approx(2.20099 * 0.522233 / 12**0.5, abs=1e-5)


RERANK = """
[study]
name = "s"
[train]
epochs = 7
[data]
folds = 4
[parent]
study = "b"
how = "rerank"
replicates = 3
candidates = [
  { trial = 7, value = 0.9, params = { "optimizer.lr" = 1e-3, "train.epochs" = 5 } },
  { trial = 2, value = 0.8, params = { "optimizer.lr" = 2e-3 } },
]
"""


def test_a_rerank_tries_every_candidate_once_before_any_twice():
    spec = parse_study(RERANK, source="s.toml")
    assert spec.study.trials == 6
    points = [(point["parent.trial"], point["data.fold"]) for point in spec.enqueue]
    assert points == [(7, 0), (2, 0), (7, 1), (2, 1), (7, 2), (2, 2)]


def test_a_run_has_its_candidates_parameters_under_the_files_own_keys():
    spec = parse_study(RERANK, source="s.toml")
    config = spec.trial_config({"parent.trial": 7, "data.fold": 2})
    assert (config.optimizer.lr, config.train.epochs, config.data.fold) == (1e-3, 7, 2)
    assert spec.trial_config({"parent.trial": 2, "data.fold": 0}).optimizer.lr == 2e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "s"', 'name = "s"\ntrials = 4'), "study.trials: must not be given for a rerank"),
        (
            ("[train]", "[space.optimizer]\nlr = { low = 0.1, high = 1.0 }\n[train]"),
            "space: must not be given",
        ),
    ],
)
def test_what_a_rerank_does_not_have_is_refused(change, message):
    with pytest.raises(StudyFileError, match=message):
        parse_study(RERANK.replace(*change), source="s.toml")


def test_runs_may_differ_by_seed():
    spec = parse_study(
        RERANK.replace("replicates = 3", 'replicates = 2\nreplicate = "seed"'), source="s.toml"
    )
    assert [point["train.seed"] for point in spec.enqueue] == [1, 1, 2, 2]


def test_more_replicates_than_folds_are_refused():
    with pytest.raises(StudyFileError, match=r"must be at most data\.folds, 2, got 3"):
        parse_study(RERANK.replace("folds = 4", "folds = 2"), source="s.toml")
