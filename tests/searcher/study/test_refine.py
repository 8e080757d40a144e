"""From a search's trials to narrower ranges: expected values by hand."""

import pytest

from searcher.study.objectives import Objective
from searcher.study.reader import parse_study
from searcher.study.refine import Tried, refine
from searcher.study.space import Choice, FloatRange, IntRange

MAXIMIZE = Objective("object_dice")


def space(table: str):
    return parse_study(f'[study]\nname = "s"\n{table}', source="s.toml").space


def trials(name: str, values_and_scores: list[tuple[object, float | None]], **others: object) -> list[Tried]:
    return [
        Tried(number=n, params={name: value, **others}, value=score)
        for n, (value, score) in enumerate(values_and_scores)
    ]


def refined(table: str, name: str, tried: list[Tried], objective: Objective = MAXIMIZE):
    found = refine(space(table), tried, objective, model="unet")
    return next(each for each in found.parameters if each.name == name), found


def test_the_best_five_or_fifteen_in_a_hundred_decide():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.9 }\n"
    for count, expected in ((4, 4), (10, 5), (33, 5), (34, 6), (100, 15)):
        tried = trials("model.dropout", [(n / 1000, float(n)) for n in range(count)])
        found = refine(space(table), tried, MAXIMIZE, model="unet")
        assert found.best == tuple(range(count - 1, count - 1 - expected, -1))
        assert found.num_complete == count


def test_less_is_better_where_the_objective_is_minimized():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    tried = trials("model.dropout", [(0.4, 9.0), (0.1, 1.0), (0.2, 2.0)])
    assert refine(space(table), tried, Objective("loss"), model="unet").best == (1, 2, 0)


def test_a_linear_range_is_the_box_with_a_tenth_of_the_old_width():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    each, _ = refined(table, "model.dropout", trials("model.dropout", [(0.2, 3), (0.25, 2), (0.3, 1)]))
    assert each.new == FloatRange(0.15, 0.35, original_range=(0.0, 0.5))
    assert "the best 3 lie in 0.2 .. 0.3" in each.reason


def test_a_logarithmic_range_is_narrowed_in_its_scale():
    table = "[space.optimizer]\nlr = { low = 1e-5, high = 1.0, log = true }\n"
    values = [(1e-3, 3), (3e-3, 2), (1e-2, 1)]
    each, _ = refined(table, "optimizer.lr", trials("optimizer.lr", values))
    # Five decades wide: half a decade on both sides, 3.16e-4 and 3.16e-2, rounded outward to three digits.
    assert each.new == FloatRange(3.16e-4, 3.17e-2, log=True, original_range=(1e-5, 1.0))


def test_the_box_is_clipped_to_the_old_range():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    values = [(0.04, 3), (0.1, 2), (0.2, 1)]
    each, _ = refined(table, "model.dropout", trials("model.dropout", values))
    assert (each.new.low, each.new.high) == (0.0, 0.25)


def test_a_crowded_edge_is_passed():
    table = "[space.optimizer]\nlr = { low = 1e-4, high = 1e-2, log = true }\n"
    values = [
        (1e-2, 3),
        (9.9e-3, 2),
        (1e-3, 1),
    ]  # two of three within a twentieth of the width of the upper edge
    each, _ = refined(table, "optimizer.lr", trials("optimizer.lr", values))
    # Two decades wide: half a decade past the edge, 3.16e-2; the lower end is 1e-3 less a fifth of a decade.
    assert each.new.high == pytest.approx(3.17e-2)
    assert each.new.low == pytest.approx(6.30e-4)
    assert each.new.original_range == (1e-4, each.new.high)
    assert "2 crowd the upper edge: widened past it" in each.reason


def test_no_range_passes_what_makes_sense():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    each, _ = refined(table, "model.dropout", trials("model.dropout", [(0.0, 3), (0.01, 2), (0.02, 1)]))
    assert each.new.low == 0.0
    assert "crowd the lower edge: it can go no farther" in each.reason


def test_integers_keep_their_grid():
    table = "[space.postprocess]\nmin_object_area_px = { low = 0, high = 600, step = 100 }\n"
    values = [(300, 3), (300, 2), (300, 1)]
    each, _ = refined(
        table, "postprocess.min_object_area_px", trials("postprocess.min_object_area_px", values)
    )
    assert each.new == IntRange(200, 400, step=100, original_range=(0, 600))  # 300 ± 60, outward on the grid


def test_too_few_values_narrow_nothing():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    each, _ = refined(table, "model.dropout", trials("model.dropout", [(0.2, 3), (0.25, 2)]))
    assert each.new == each.old == FloatRange(0.0, 0.5)
    assert "only 2 of the best 2" in each.reason


CHOICES = '[space.optimizer]\nname = { choices = ["sgd", "adam", "adamw"] }\n'


def test_a_choice_goes_only_when_tried_often_and_never_among_the_best():
    good = [("adamw", 0.9)] * 5
    tried = trials("optimizer.name", [*good, *[("sgd", 0.1)] * 4, ("sgd", None), *[("adam", 0.2)] * 4])
    each, found = refined(CHOICES, "optimizer.name", tried)
    # sgd: five tries, one of them pruned; adam: four, too few to go.
    assert each.new == Choice(("adam", "adamw"), ("sgd", "adam", "adamw"))
    assert "dropped 'sgd'" in each.reason
    assert len(found.best) == 5


def test_one_among_the_best_is_enough_to_stay():
    tried = trials("optimizer.name", [*[("adamw", 0.9)] * 4, ("sgd", 0.8), *[("sgd", 0.1)] * 9])
    each, _ = refined(CHOICES, "optimizer.name", tried)
    assert each.new == each.old


def test_what_depends_on_a_dropped_choice_is_left_to_explorers():
    table = CHOICES + 'momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }\n'
    tried = trials("optimizer.name", [("adamw", 0.9)] * 5)
    tried += [
        Tried(number=5 + n, params={"optimizer.name": "sgd", "optimizer.momentum": 0.5}, value=0.1)
        for n in range(5)
    ]
    each, found = refined(table, "optimizer.momentum", tried)
    assert each.new == each.old
    assert "only explorers" in each.reason
    narrow = found.space.narrow()
    assert narrow.contains({"optimizer.name": "adamw"})
    assert not narrow.contains({"optimizer.name": "sgd", "optimizer.momentum": 0.5})
    assert found.space.widened() == space(table)


def test_narrowing_twice_remembers_the_first_space():
    table = "[space.model]\ndropout = { low = 0.0, high = 0.5 }\n"
    once = refine(
        space(table), trials("model.dropout", [(0.2, 3), (0.25, 2), (0.3, 1)]), MAXIMIZE, model="unet"
    )
    twice = refine(
        once.space, trials("model.dropout", [(0.25, 3), (0.25, 2), (0.26, 1)]), MAXIMIZE, model="unet"
    )
    [each] = twice.parameters
    assert (each.new.low, each.new.high, each.new.original_range) == (0.23, 0.28, (0.0, 0.5))


def test_a_limit_that_is_itself_excluded_is_not_reached():
    """A threshold is above 0: by a quarter of the width below 0.1 there is nothing, so the edge stays."""
    table = "[space.postprocess]\nthreshold = { low = 0.1, high = 0.9 }\n"
    values = [(0.1, 3), (0.11, 2), (0.3, 1)]
    each, _ = refined(table, "postprocess.threshold", trials("postprocess.threshold", values))
    assert (each.new.low, each.new.high) == (0.1, 0.38)
    assert "it can go no farther" in each.reason


def test_what_explorers_found_outside_of_a_narrowed_range_widens_it():
    table = "[space.optimizer]\nlr = { low = 1e-3, high = 2e-3, log = true, original_range = [1e-5, 1e-1] }\n"
    each, _ = refined(table, "optimizer.lr", trials("optimizer.lr", [(5e-2, 3), (5e-2, 2), (6e-2, 1)]))
    # All beyond the upper edge: up to the farthest of them; down to the lowest, less a tenth of the width, a factor 2.
    assert each.new.high == pytest.approx(6e-2)
    assert each.new.low == pytest.approx(5e-2 / 2**0.1, rel=0.01)
    assert each.new.original_range == (1e-5, 1e-1)
    assert "3 crowd the upper edge" in each.reason


def test_a_choice_that_explorers_found_good_comes_back():
    table = '[space.optimizer]\nname = { choices = ["adam"], original_range = ["sgd", "adam"] }\n'
    tried = trials("optimizer.name", [("sgd", 0.9), *[("adam", 0.8)] * 4])
    each, _ = refined(table, "optimizer.name", tried)
    assert each.new == Choice(("sgd", "adam"), ("sgd", "adam"))
    assert "taken back 'sgd'" in each.reason
