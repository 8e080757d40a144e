"""Disagreement of predictions, against overlaps counted by hand."""

import numpy as np
import pytest
from label_maps import mapped

from searcher.data_pipeline.images import ArrayRaster
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.disagreement import (
    Comparison,
    Mirrored,
    compare_predictions,
    disagreement_of,
    disputed_region,
    read_mirrored,
)


def with_squares(*squares, size=(20, 30)):
    labels = np.zeros(size, np.int32)
    for number, (y, x, height, width) in enumerate(squares, start=1):
        labels[y : y + height, x : x + width] = number
    return labels


OURS = with_squares((0, 0, 4, 5), (10, 10, 4, 4))
SAME_AND_SHIFTED = with_squares((10, 12, 4, 4), (0, 0, 4, 5))
"""The second of ours two columns to the right, 8 of 24 pixels in common; and the first."""
OTHERS_ONLY = with_squares((15, 25, 2, 4))


def test_of_each_object_the_best_overlap_counts_and_what_is_missed_counts_one(tmp_path):
    with mapped(OURS, tmp_path) as ours:
        shifted = compare_predictions(ours, lambda window: SAME_AND_SHIFTED[window.window])
        others = compare_predictions(ours, lambda window: OTHERS_ONLY[window.window])
    assert shifted.best_iou == pytest.approx([1.0, 8 / 24])
    assert shifted.missed_at.tolist() == [[12.0, 14.0]]  # the shifted one, whose IoU is below one half
    assert others.best_iou.tolist() == [0.0, 0.0]
    assert others.missed_at.tolist() == [[16.0, 27.0]]
    found = disagreement_of([shifted, others])
    assert found.of_objects == pytest.approx([0.5, 1 - 8 / 48])
    assert found.num_missed == 1.0
    assert found.of_image == pytest.approx((0.5 + 1 - 8 / 48 + 1) / 3)


def test_nothing_anywhere_is_no_disagreement_and_missing_all_is_the_most(tmp_path):
    nothing = np.zeros((20, 30), np.int32)
    with mapped(nothing, tmp_path) as ours:
        assert (
            disagreement_of([compare_predictions(ours, lambda window: nothing[window.window])]).of_image
            == 0.0
        )
        assert (
            disagreement_of([compare_predictions(ours, lambda window: OURS[window.window])]).of_image == 1.0
        )


@pytest.mark.parametrize(("rows", "columns"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_mirrored_image_is_read_and_its_labels_are_mirrored_back(tmp_path, rows, columns):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    turned = image[:: -1 if rows else 1, :: -1 if columns else 1]
    window = Tile(3, 7, 5, 11)
    raster = Mirrored(ArrayRaster(image), rows=rows, columns=columns)
    np.testing.assert_array_equal(raster.read(window), turned[window.window])
    with mapped(
        np.ascontiguousarray(OURS[:: -1 if rows else 1, :: -1 if columns else 1]), tmp_path
    ) as labels:
        np.testing.assert_array_equal(
            read_mirrored(labels, window, rows=rows, columns=columns), OURS[window.window]
        )


def test_the_region_is_where_most_disagreement_is():
    missed = np.array([[90.0, 95.0], [95.0, 90.0]])
    found = disagreement_of([Comparison(np.array([0.9, 0.2]), missed)])
    centres = np.array([[5.0, 5.0], [80.0, 85.0]])
    # The window of 30 px holds the three at the lower right, however it is centred on one of them.
    region = disputed_region(found, centres, 100, 100, side_px=30)
    assert (region.height, region.width) == (30, 30)
    for row, column in [*missed, centres[1]]:
        assert region.y <= row < region.y + 30
        assert region.x <= column < region.x + 30
    assert disputed_region(found, centres, 100, 100, side_px=200) == Tile(0, 0, 100, 100)
    assert disputed_region(found, centres, 100, 300, side_px=200).height == 100
