"""Asking trained models: one, several, on tiles, turned and mirrored; with toy models whose answers are known."""

import numpy as np
import pytest
import torch
from toy_models import OneBox, RedIsProbability

from searcher.exceptions import UserError
from searcher.inference.predictor import Predictor
from searcher.models.settings import PostprocessSettings
from searcher.models.unet import UNet

CPU = torch.device("cpu")


def some_image(height: int = 12, width: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_one_model_sees_the_image_and_cuts_as_its_settings_say():
    image = np.zeros((8, 8, 3), np.uint8)
    image[1:3, 1:3, 0] = 200
    image[5:7, 5:7, 0] = 100
    predictor = Predictor([RedIsProbability(postprocess=PostprocessSettings(threshold=0.7))], device=CPU)
    maps = predictor.see(image)
    np.testing.assert_allclose(maps, image[None, ..., 0] / np.float32(255))
    assert predictor.cut(maps).labels.sum() == 4
    predictor.postprocess = PostprocessSettings(threshold=0.3)
    assert predictor.cut(maps).labels.max() == 2


def test_an_ensemble_is_the_mean_of_the_maps():
    image = some_image()
    predictor = Predictor([RedIsProbability(0.2), RedIsProbability(0.5), RedIsProbability(0.8)], device=CPU)
    np.testing.assert_allclose(predictor.see(image), image[None, ..., 0] / 255 * 0.5, rtol=1e-5)


def test_with_test_time_augmentation_every_model_sees_8_versions():
    image, models = some_image(), [RedIsProbability(), RedIsProbability(0.5)]
    maps = Predictor(models, device=CPU, tta=True).see(image)
    np.testing.assert_allclose(maps, image[None, ..., 0] / 255 * 0.75, rtol=1e-5)
    for model in models:
        assert sorted(model.sizes) == [(12, 20)] * 4 + [(20, 12)] * 4


def test_tiles_are_stitched():
    image, model = some_image(), RedIsProbability()
    maps = Predictor([model], device=CPU, tile_px=8, tile_overlap_px=2).see(image)
    assert set(model.sizes) == {(8, 8)}
    assert len(model.sizes) == 2 * 3
    np.testing.assert_allclose(maps, image[None, ..., 0] / np.float32(255), rtol=1e-5)


def test_an_image_smaller_than_the_overlap_is_one_tile():
    image = some_image(3, 5)
    assert Predictor([RedIsProbability()], device=CPU).see(image).shape == (1, 3, 5)


def test_detections_are_passed_on_and_cut():
    predictor = Predictor([OneBox()], device=CPU)
    found = predictor.see(some_image())
    assert predictor.cut(found).labels[:6, :10].all()
    predictor.postprocess = PostprocessSettings(min_score=0.6)
    assert not predictor.cut(found).labels.any()


@pytest.mark.parametrize(
    ("models", "tta", "what"),
    [
        ([OneBox(), OneBox()], False, "an ensemble"),
        ([RedIsProbability(), OneBox()], False, "an ensemble"),
        ([OneBox()], True, "test-time augmentation"),
    ],
)
def test_detections_have_no_mean(models, tta, what):
    with pytest.raises(
        UserError, match=f"{what} needs models with maps of probabilities, such as unet, got one"
    ):
        Predictor(models, device=CPU, tta=tta)


@pytest.mark.parametrize("heads", [("contour", "binary"), ("binary", "contour"), ("contour", "distance")])
def test_maps_that_say_different_things_have_no_mean(heads):
    """Of whatever number of channels: broadcasting would add up nonsense."""
    models = [UNet(base_channels=1, depth=1, head=head) for head in heads]
    with pytest.raises(UserError, match="an ensemble needs models whose maps say the same, got"):
        Predictor(models, device=CPU)
