"""Tuning from output to instances: by hand on two painted images, where the best settings are known."""

import numpy as np
import pytest
import torch
from toy_models import RedIsProbability

from searcher.inference import tuning
from searcher.inference.measuring import measure_split, see_all
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import (
    CANDIDATES,
    Tuned,
    agreed,
    choose_views,
    tune_postprocess,
    tuning_target,
)
from searcher.models.registry import build_model, names
from searcher.models.settings import SETTINGS, PostprocessSettings
from searcher.study.objectives import TUNING_TARGETS, Objective

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", names())
def test_every_setting_that_matters_to_a_model_has_candidates_that_are_allowed(name):
    heads = [{}, {"head": "contour"}, {"head": "distance"}] if name == "unet" else [{}]
    for head in heads:
        model = build_model(SETTINGS[name](**head), PostprocessSettings())
        assert model.postprocess_keys
        for key in model.postprocess_keys:
            for value in CANDIDATES[key]:
                assert getattr(PostprocessSettings(**{key: value}), key) == value
            assert getattr(PostprocessSettings(), key) in CANDIDATES[key], "the default is among them"


def test_the_best_settings_are_found_and_the_record_says_what_they_bring(painted):
    """Threshold 0.3 takes the halo in: Dice of each gland 2 * 36 / (36 + 64) = 0.72. The speck is a found object
    without a partner: 2 of 130 found pixels."""
    start = PostprocessSettings(threshold=0.3)
    predictor = Predictor([RedIsProbability(postprocess=start)], device=CPU)
    seen = see_all(predictor, painted, [0, 1])
    tuned, _ = tune_postprocess(predictor, seen, "object_dice", tta=True)
    assert tuned.value_before == pytest.approx((0.72 + 0.72 * 128 / 130) / 2)
    # The halo goes; the speck stays, since the first area that drops it, 50 px, would drop the glands of 36 px too.
    assert tuned.value == pytest.approx((1 + 72 / 74) / 2)
    # The halo is believed at 0.4, the glands at 0.8: 0.4 to 0.7 are equally good.
    assert tuned.postprocess == PostprocessSettings(threshold=0.55)
    assert (tuned.metric, tuned.num_images, tuned.tta) == ("object_dice", 2, True)
    assert predictor.postprocess == tuned.postprocess
    assert measure_split(predictor, seen).pooled["object_dice"] == tuned.value


def test_settings_stay_where_nothing_is_gained(painted):
    start = PostprocessSettings(threshold=0.5, min_object_area_px=3)
    predictor = Predictor([RedIsProbability(postprocess=start)], device=CPU)
    tuned, _ = tune_postprocess(predictor, see_all(predictor, painted, [0, 1]), "object_dice")
    assert (tuned.postprocess, tuned.value_before, tuned.value) == (start, 1.0, 1.0)


def test_a_distance_is_tuned_downwards(painted):
    predictor = Predictor([RedIsProbability(postprocess=PostprocessSettings(threshold=0.3))], device=CPU)
    tuned, _ = tune_postprocess(predictor, see_all(predictor, painted, [0]), "object_hausdorff")
    assert tuned.value_before == pytest.approx(2**0.5)  # the halo's corner
    assert tuned.value == 0.0


@pytest.mark.parametrize(
    ("metric", "objective", "target"),
    [
        ("objective", "object_f1", "object_f1"),
        ("objective", "loss", "object_dice"),
        ("object_dice", "object_hausdorff", "object_dice"),
        ("object_f1+object_dice", "loss", "object_f1+object_dice"),
    ],
)
def test_what_is_tuned_for(metric, objective, target):
    assert tuning_target(metric, Objective(objective)) == target


def test_small_objects_go_where_f1_counts_too(painted):
    """A speck of 2 px beside a gland of 36 px: for F1 it is one of three objects."""
    start = PostprocessSettings(threshold=0.5)
    predictor = Predictor([RedIsProbability(postprocess=start)], device=CPU)
    seen = see_all(predictor, painted, [0, 1])
    tuned, _ = tune_postprocess(predictor, seen, "object_f1+object_dice")
    assert tuned.value_before == pytest.approx((4 / 5 + (1 + 72 / 74) / 2) / 2)


def images(*rows):
    """Sums of images with one found and one true object each: whether they match, and the Dice of both."""
    none_of_instances = [0] * 15
    return np.array(
        [[tp, 0, 1, 100, 100 * dice, 0, 1, 100, 100 * dice, 0, *none_of_instances] for tp, dice in rows],
        dtype=float,
    )


def test_the_standard_error_of_a_gain_is_the_jackknifes():
    """Gains of .1, .2 and .3 in three images of equal weight: the mean's error is that of the mean, .1 / 3 ** .5."""
    before = tuning._measured(images((1, 0.5), (1, 0.5), (1, 0.5)), "object_dice")
    after = tuning._measured(images((1, 0.6), (1, 0.7), (1, 0.8)), "object_dice")
    assert (before.value, after.value) == pytest.approx((0.5, 0.7))
    assert before.error_against(after) == pytest.approx(0.1 / 3**0.5)
    alone = tuning._measured(images((1, 0.5)), "object_dice")
    assert alone.error_against(alone) == 0.0


@pytest.mark.parametrize(
    ("gains", "threshold"),
    [
        ((0.01, 0.01, 0.01), 0.6),  # in all images
        ((0.13, -0.05, -0.05), 0.5),  # in one of three: .01 on the average, too
    ],
)
def test_a_gain_within_its_own_error_changes_nothing(gains, threshold):
    measured = {
        0.5: tuning._measured(images(*((1, 0.8),) * 3), "object_dice"),
        0.6: tuning._measured(images(*((1, 0.8 + gain) for gain in gains)), "object_dice"),
    }
    assert tuning._step(PostprocessSettings(threshold=0.5), "threshold", measured).threshold == threshold


def test_what_is_taken_is_better_than_what_was():
    """.6 gains .01 in each image. .4 has .007 less than .5 and .017 less than .6, but with an error of .070 against it:
    as good as the best by chance, worse than what is."""
    dice = {0.4: (0.93, 0.75, 0.70), 0.5: (0.80, 0.80, 0.80), 0.6: (0.81, 0.81, 0.81)}
    measured = {
        value: tuning._measured(images(*((1, each) for each in row)), "object_dice")
        for value, row in dice.items()
    }
    assert measured[0.4].error_against(measured[0.6]) == pytest.approx(0.0698, abs=1e-4)
    assert tuning._step(PostprocessSettings(threshold=0.5), "threshold", measured).threshold == 0.6


@pytest.mark.parametrize("metric", TUNING_TARGETS)
def test_the_record_of_every_target_survives_a_checkpoint(metric):
    tuned = Tuned(
        postprocess=PostprocessSettings(threshold=0.4),
        tta=True,
        metric=metric,
        value_before=0.5,
        value=0.6,
        num_images=3,
    )
    assert Tuned.from_dict(tuned.to_dict()) == tuned
    with pytest.raises(ValueError, match="threshold"):
        Tuned.from_dict({**tuned.to_dict(), "postprocess": {"threshold": 7.0}})


@pytest.mark.parametrize(
    ("gains", "tta"),
    [
        ((0.05, 0.05, 0.05), True),
        ((0.0, 0.0, 0.0), True),
        ((-0.13, 0.05, 0.05), True),  # worse by .01, with an error of .06
        ((-0.01, -0.01, -0.01), False),  # worse in all images
    ],
)
def test_the_mean_of_views_is_taken_unless_it_is_surely_worse(gains, tta):
    def tuning_of(dice, *, tta, before):
        measured = tuning._measured(images(*((1, each) for each in dice)), "object_dice")
        tuned = Tuned(
            postprocess=PostprocessSettings(),
            tta=tta,
            metric="object_dice",
            value_before=before,
            value=measured.value,
            num_images=len(dice),
        )
        return tuned, measured

    one = tuning_of((0.8, 0.8, 0.8), tta=False, before=0.75)
    chosen = choose_views(one, tuning_of([0.8 + gain for gain in gains], tta=True, before=0.7))
    assert chosen.tta is tta
    assert chosen.value == pytest.approx(0.8 + sum(gains) / 3 if tta else 0.8)
    assert chosen.value_before == 0.75  # of one view, as it was trained


def test_members_of_an_ensemble_agree_on_the_median():
    settings = [
        PostprocessSettings(threshold=0.3, min_object_area_px=500, keep_unseeded=False),
        PostprocessSettings(threshold=0.6, min_object_area_px=0, keep_unseeded=True),
        PostprocessSettings(threshold=0.5, min_object_area_px=100, keep_unseeded=False),
    ]
    assert agreed(settings) == PostprocessSettings(threshold=0.5, min_object_area_px=100, keep_unseeded=False)
    assert agreed(settings[:1]) == settings[0]
    assert agreed(settings[:2]).threshold == 0.3
