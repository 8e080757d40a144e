"""Several objectives: what no other point beats, by hand."""

import math

import pytest

from searcher.exceptions import StudyFileError
from searcher.study.objectives import pareto_front
from searcher.study.reader import parse_study


def test_the_front_by_hand():
    # Object Dice up, seconds down: the second is beaten by the first, the fourth by all, the last two are equal.
    points = [(0.9, 2.0), (0.8, 2.0), (0.7, 1.0), (0.6, 3.0), (0.95, 5.0), (0.95, 5.0)]
    assert pareto_front(points, ["maximize", "minimize"]) == [0, 2, 4, 5]


def test_nan_is_beaten_and_one_objective_has_its_best():
    assert pareto_front([(math.nan,), (1.0,), (3.0,), (3.0,)], ["maximize"]) == [2, 3]
    assert pareto_front([], ["maximize", "minimize"]) == []


def test_further_objectives_are_part_of_what_a_study_is():
    text = '[study]\nname = "s"\nobjective = "object_dice"\nsecondary_objectives = ["seconds_per_image", "loss"]\n'
    spec = parse_study(text, source="s.toml")
    assert spec.directions == ["maximize", "minimize", "minimize"]
    assert spec.identity()["study.also"] == "seconds_per_image, loss"
    assert (
        "study.also"
        not in parse_study(
            text.replace("secondary_objectives", "# secondary_objectives"), source="s.toml"
        ).identity()
    )


def test_a_sampler_for_one_objective_is_refused():
    text = '[study]\nname = "s"\nsecondary_objectives = ["loss"]\n[search]\nsampler = "cmaes"\n'
    with pytest.raises(StudyFileError, match="must know several objectives"):
        parse_study(text, source="s.toml")


@pytest.mark.parametrize(
    ("secondary_objectives", "message"),
    [
        ('["object_dice"]', "must name other metrics than objective"),
        ('["loss", "loss"]', "each once"),
        ('["speed"]', "study.secondary_objectives"),
    ],
)
def test_wrong_further_objectives(secondary_objectives, message):
    with pytest.raises(StudyFileError, match=message):
        parse_study(f'[study]\nname = "s"\nsecondary_objectives = {secondary_objectives}\n', source="s.toml")
