"""What a model leaves to the data is found out from the images that are trained on, and from no others."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from searcher.exceptions import UserError
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.data_defaults import (
    fitted_sizes,
    fitted_to_data,
    object_statistics,
    with_image_channels,
)
from searcher.training.dataset import split_store
from searcher.training.trainer import Trainer


class Labels:
    """The part of a store that is asked for: label maps."""

    channels = ("red", "green", "blue")
    fingerprint = "0"
    path = Path("/nowhere")

    def __init__(self, *label_maps: np.ndarray) -> None:
        self._label_maps = label_maps

    def __len__(self) -> int:
        return len(self._label_maps)

    def labels(self, index: int) -> np.ndarray:
        return self._label_maps[index]


def with_boxes(*boxes: tuple[int, int], gaps: int = 1, dtype: type = np.uint16) -> np.ndarray:
    """A label map with objects of these heights and widths, one below the other."""
    labels = np.zeros((sum(height + 1 for height, _ in boxes) + 1, 100), dtype)
    top = 0
    for number, (height, width) in enumerate(boxes, start=1):
        labels[top : top + height, :width] = number * gaps
        top += height + 1
    return labels


def test_sides_elongation_and_number_by_hand():
    store = Labels(with_boxes((10, 10), (20, 5)), with_boxes((9, 4)), with_boxes((40, 40)))
    found = object_statistics(store, [0, 1])
    # Sides 10, 10 and 6; elongations 1, 4 and 2.25. Quantiles lie between two values in proportion.
    assert found.small_px == pytest.approx(6 + 0.05 * 2 * 4)
    assert found.large_px == pytest.approx(10)
    assert found.aspect == pytest.approx(2.25 + (0.8 * 2 - 1) * (4 - 2.25))
    assert found.max_per_image == 2


def test_labels_may_have_gaps_and_fill_the_image():
    full = np.full((8, 8), 70_000, np.int32)
    found = object_statistics(Labels(full, with_boxes((8, 8), (8, 8), gaps=30_000)), [0, 1])
    assert (found.small_px, found.large_px, found.aspect, found.max_per_image) == (8, 8, 1, 2)


def test_no_object_no_statistics(caplog):
    empty = Labels(np.zeros((4, 4), np.uint16))
    assert object_statistics(empty, [0]) is None
    config = TrialConfig.model_validate({"model": {"name": "mask_rcnn"}})
    assert fitted_to_data(config, empty, [0]) is config
    assert "no training image holds an object" in caplog.text


def test_what_was_found_is_said_and_nothing_else_changes(caplog):
    caplog.set_level(logging.INFO)
    store = Labels(with_boxes((16, 16)))
    config = TrialConfig.model_validate({"model": {"name": "mask_rcnn", "anchor_octaves": 3.0}})
    fitted = fitted_to_data(config, store, [0])
    assert (fitted.model.anchor_min_px, fitted.model.anchor_octaves) == (16.0, 3.0)
    assert fitted.model_copy(update={"model": config.model}) == config
    assert "from the objects of 1 training images: anchor_min_px=16.0" in caplog.text
    assert "anchor_octaves" not in caplog.text


def test_a_model_that_leaves_nothing_to_the_data_has_no_image_read():
    config = TrialConfig()
    assert (
        fitted_to_data(
            config,
            SimpleNamespace(
                channels=("red", "green", "blue"),
            ),
            [0],
        )
        is config
    )


def test_the_model_has_the_images_channels(caplog):
    store = SimpleNamespace(channels=("nuclei", "membranes"))
    config = TrialConfig()
    with caplog.at_level(logging.INFO):
        fitted = with_image_channels(config, store)
    assert fitted.model.channels == 2
    assert "model.channels=2 (nuclei, membranes)" in caplog.text
    assert TrialConfig.model_validate(fitted.to_dict()) == fitted
    assert fitted.digest() == config.digest()  # of the same trial, whose data have a fingerprint of their own


def test_colour_changes_nothing_and_other_channels_than_the_datas_are_refused():
    colour = SimpleNamespace(channels=("red", "green", "blue"))
    config = TrialConfig()
    assert with_image_channels(config, colour) is config
    four = TrialConfig.model_validate({"model": {"channels": 4}})
    with pytest.raises(
        UserError, match=r"model\.channels: must be left to the data, whose images have 3, got 4"
    ):
        with_image_channels(four, colour)
    with pytest.raises(UserError, match=r"at most 64 channels, got 65"):
        with_image_channels(config, SimpleNamespace(channels=("a",) * 65))


LEFT = {
    "model": {
        "name": "unet",
        "head": "contour",
        "contour_width_px": "auto",
        "distance_cap_px": "auto",
        "border_sigma_px": "auto",
    },
    "postprocess": {"min_object_area_px": "auto"},
}
NUCLEI = with_boxes(*[(3, 4)] * 2, *[(6, 6)] * 18, *[(9, 12)] * 20)


def sizes(config):
    model = config.model
    widths = (model.contour_width_px, model.distance_cap_px, model.border_sigma_px)
    return (*widths, config.postprocess.min_object_area_px)


def test_sizes_that_are_left_open_follow_from_the_training_objects_alone(caplog):
    caplog.set_level(logging.INFO)
    config = TrialConfig.model_validate(LEFT)
    store = Labels(NUCLEI, with_boxes(*[(80, 90)] * 30))
    # Of 40 areas (2 of 12, 18 of 36, 20 of 108), 5% are below the second smallest but one, 12; narrow sides are 3, 6
    # and 9, so a contour of 1 px leaves an inside. Half of the sides' median, 6 and 10.4, is 4.1.
    small = fitted_to_data(config, store, [0])
    assert sizes(small) == (1, 4, 1.0, 12)
    found = "border_sigma_px=1.0, contour_width_px=1, distance_cap_px=4, min_object_area_px=12"
    assert f"from the objects of 1 training images: {found}" in caplog.text
    # A contour leaves glands an inside up to 12 px, from a third of that; caps and sigmas end at what GlaS has.
    assert sizes(fitted_to_data(config, store, [1])) == (8, 16, 5.0, 7200)
    assert small.digest() != config.digest()  # what the sampler chose is "auto"
    assert TrialConfig.model_validate(config.to_dict()) == config
    assert config.to_dict()["postprocess"]["min_object_area_px"] == "auto"


def test_a_trial_that_resumes_keeps_its_sizes_and_explicit_ones_stay():
    config = TrialConfig.model_validate(LEFT)
    store = Labels(NUCLEI, with_boxes((80, 90)))
    fitted = fitted_to_data(config, store, [0])
    assert sizes(fitted_to_data(config, store, [1], fitted.to_dict())) == sizes(fitted)
    fixed = TrialConfig.model_validate({"postprocess": {"min_object_area_px": 300}})
    assert fitted_to_data(fixed, store, [0]) is fixed
    assert fitted_sizes(config, []) == config.model_copy(
        update={"model": TrialConfig.model_validate({"model": {"name": "unet", "head": "contour"}}).model}
        | {"postprocess": TrialConfig().postprocess}
    )


@pytest.mark.parametrize("value", [-1, "Auto", "", 1.5, True])
def test_nothing_else_is_taken_for_auto(value):
    with pytest.raises(ValueError, match="min_object_area_px"):
        TrialConfig.model_validate({"postprocess": {"min_object_area_px": value}})


def test_a_checkpoint_has_the_sizes_as_numbers_and_continues_the_trial_that_left_them_open(
    store, tiny, recorder, tmp_path
):
    open_sizes = {"head": "contour", "loss": "ce", "contour_width_px": "auto"}
    config = tiny(
        model=open_sizes,
        postprocess={"min_object_area_px": "auto"},
        train={"epochs": 2},
        tuning={"postprocess": True},
    )
    with Trainer(config, Objective("object_dice"), store=store, run_dir=tmp_path) as trainer:
        found = trainer.sizes
        trainer.step(recorder())
    objects = object_statistics(store, split_store(store, config.data).train)
    widest = min(12, (objects.narrow_px - 1) // 2)
    expected = {
        "model.contour_width_px": (max(1, widest // 3) + widest) // 2,
        "postprocess.min_object_area_px": objects.small_area_px,
    }
    assert found == expected
    checkpoint, _ = load_checkpoint(tmp_path / "last.pt", config_digest=config.digest())
    values = TrialConfig.model_validate(checkpoint.config)
    assert values.model.contour_width_px == expected["model.contour_width_px"]
    assert values.postprocess.min_object_area_px == expected["postprocess.min_object_area_px"]
    assert checkpoint.meaning == config.digest()
    assert set(checkpoint.left_to_data) == {"data.normalisation", *expected}
    resumed = Trainer(
        config, Objective("object_dice"), store=store, run_dir=tmp_path, resume_from=tmp_path / "last.pt"
    )
    with resumed as trainer:
        assert trainer.sizes == expected
        assert trainer.fit(recorder()).tuned["postprocess"]["min_object_area_px"] != "auto"
