"""Tuning from output to instances: by hand on two painted images, where the best settings are known."""

import pytest
import torch
from toy_models import OneBox, RedIsProbability

from models.registry import build_model, names
from models.settings import SETTINGS, PostprocessSettings
from searcher.inference.measuring import measure_split, see_all
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import CANDIDATES, Tuned, agreed, best_of, tune_postprocess
from searcher.study.objectives import Objective

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
    tuned = tune_postprocess(predictor, seen, Objective("object_dice"), tta=True)
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
    tuned = tune_postprocess(predictor, see_all(predictor, painted, [0, 1]), Objective("object_dice"))
    assert (tuned.postprocess, tuned.value_before, tuned.value) == (start, 1.0, 1.0)


def test_a_distance_is_tuned_downwards(painted):
    predictor = Predictor([RedIsProbability(postprocess=PostprocessSettings(threshold=0.3))], device=CPU)
    tuned = tune_postprocess(predictor, see_all(predictor, painted, [0]), Objective("object_hausdorff"))
    assert tuned.value_before == pytest.approx(2**0.5)  # the halo's corner
    assert tuned.value == 0.0


def test_a_study_of_the_loss_tunes_for_object_dice(painted):
    predictor = Predictor([OneBox()], device=CPU)
    assert (
        tune_postprocess(predictor, see_all(predictor, painted, [0]), Objective("loss")).metric
        == "object_dice"
    )


def test_the_record_survives_a_checkpoint():
    tuned = Tuned(
        postprocess=PostprocessSettings(threshold=0.4),
        tta=True,
        metric="object_f1",
        value_before=0.5,
        value=0.6,
        num_images=3,
    )
    assert Tuned.from_dict(tuned.to_dict()) == tuned
    with pytest.raises(ValueError, match="threshold"):
        Tuned.from_dict({**tuned.to_dict(), "postprocess": {"threshold": 7.0}})


def test_the_mean_of_views_is_taken_where_it_is_better_and_compared_with_what_was_trained():
    def tuned(metric, before, value, *, tta):
        return Tuned(
            postprocess=PostprocessSettings(),
            tta=tta,
            metric=metric,
            value_before=before,
            value=value,
            num_images=3,
        )

    one = tuned("object_dice", 0.8, 0.85, tta=False)
    assert best_of([one, tuned("object_dice", 0.7, 0.84, tta=True)]) == one
    assert best_of([one, tuned("object_dice", 0.7, 0.85, tta=True)]) == one
    assert best_of([one, tuned("object_dice", 0.7, 0.9, tta=True)]) == tuned(
        "object_dice", 0.8, 0.9, tta=True
    )
    far = tuned("object_hausdorff", 70.0, 60.0, tta=False)
    assert best_of([far, tuned("object_hausdorff", 80.0, 50.0, tta=True)]).value == 50.0


def test_members_of_an_ensemble_agree_on_the_median():
    settings = [
        PostprocessSettings(threshold=0.3, min_object_area_px=500, keep_unseeded=False),
        PostprocessSettings(threshold=0.6, min_object_area_px=0, keep_unseeded=True),
        PostprocessSettings(threshold=0.5, min_object_area_px=100, keep_unseeded=False),
    ]
    assert agreed(settings) == PostprocessSettings(threshold=0.5, min_object_area_px=100, keep_unseeded=False)
    assert agreed(settings[:1]) == settings[0]
    assert agreed(settings[:2]).threshold == 0.3
