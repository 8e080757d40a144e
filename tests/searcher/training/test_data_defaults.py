"""What a model leaves to the data is found out from the images that are trained on, and from no others."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from searcher.exceptions import UserError
from searcher.study.config import TrialConfig
from searcher.training.data_defaults import fitted_to_data, object_statistics, with_channels


class Labels:
    """The part of a store that is asked for: label maps."""

    channels = ("red", "green", "blue")

    def __init__(self, *label_maps: np.ndarray) -> None:
        self._label_maps = label_maps

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
        fitted = with_channels(config, store)
    assert fitted.model.channels == 2
    assert "model.channels=2 (nuclei, membranes)" in caplog.text
    assert TrialConfig.model_validate(fitted.to_dict()) == fitted
    assert fitted.digest() == config.digest()  # of the same trial, whose data have a fingerprint of their own


def test_colour_changes_nothing_and_other_channels_than_the_datas_are_refused():
    colour = SimpleNamespace(channels=("red", "green", "blue"))
    config = TrialConfig()
    assert with_channels(config, colour) is config
    four = TrialConfig.model_validate({"model": {"channels": 4}})
    with pytest.raises(
        UserError, match=r"model\.channels: must be left to the data, whose images have 3, got 4"
    ):
        with_channels(four, colour)
    with pytest.raises(UserError, match=r"at most 64 channels, got 65"):
        with_channels(config, SimpleNamespace(channels=("a",) * 65))
