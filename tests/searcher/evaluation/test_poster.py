"""The poster's metrics, each by a hand calculation on images that are not resized."""

import math

import numpy as np
import pytest

from searcher.evaluation.glas.poster import PosterMetrics, compare_as_poster, mean


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.int32)


def test_one_object_half_found():
    """Truth 4 px, prediction 2 of them. From the truth: its own 4 px with 2 found, Dice 4/6, 2 px away; from the
    prediction: all of it is gland, Dice 1, and inside its box nothing is missed."""
    assert compare_as_poster(row(1, 1, 1, 1, 0), row(1, 1, 0, 0, 0), size_px=None) == PosterMetrics(
        f1=4 / 6, object_dice=(4 / 6 + 1) / 2, object_hausdorff=(2 + 0) / 2, count=1
    )


def test_an_object_without_partner_costs_its_box():
    """3x4 box of diagonal 5, no partner; a 1-px prediction in the corner has a box of diagonal sqrt 2."""
    truth, prediction = np.zeros((8, 8), np.int32), np.zeros((8, 8), np.int32)
    truth[0:3, 0:4] = 1
    truth[1, 1] = 0  # 11 px in a box of 12
    prediction[7, 7] = 1
    metrics = compare_as_poster(truth, prediction, size_px=None)
    assert metrics.object_hausdorff == pytest.approx((12 / 11 * 5 + 1 / 1 * math.sqrt(2)) / 2)
    assert (metrics.f1, metrics.object_dice, metrics.count) == (0, 0, 1)


def test_labels_are_thrown_away_and_diagonal_neighbours_join():
    """Two labels that touch over a corner are one object, one label in two places is two: two against two."""
    truth = np.array([[1, 0, 0, 0], [0, 2, 0, 3]])
    prediction = np.array([[0, 0, 0, 0], [0, 1, 0, 1]])
    assert compare_as_poster(truth, prediction, size_px=None) == PosterMetrics(
        f1=2 * 2 / 5,
        object_dice=((2 / 3) * (2 / 3) + 1 / 3 + 1) / 2,
        object_hausdorff=pytest.approx((2 / 3) * math.sqrt(2) / 2),
        count=1,
    )


def test_count_is_the_smaller_by_the_larger():
    assert compare_as_poster(row(1, 0, 2, 0, 3), row(1, 1, 1, 0, 1), size_px=None).count == 2 / 3
    assert compare_as_poster(row(1, 0, 2, 0, 3), row(0, 0, 0, 0, 0), size_px=None).count == 0


def test_area_weights():
    """6 px found whole and 2 px not at all: Dice 6/8 from the truth's side, 1 from the prediction's."""
    metrics = compare_as_poster(row(1, 1, 1, 1, 1, 1, 0, 2, 2), row(1, 1, 1, 1, 1, 1, 0, 0, 0), size_px=None)
    assert metrics.object_dice == (6 / 8 + 1) / 2
    assert metrics.object_hausdorff == pytest.approx((2 / 8 * math.hypot(1, 2)) / 2)


def test_nothing_to_find_and_nothing_found():
    assert compare_as_poster(row(0, 0), row(0, 0), size_px=None) == PosterMetrics(1, 1, 0, 0)


def test_images_are_squashed_to_512():
    """A 512x1024 image loses every other column: 8 px apart become 4."""
    truth, prediction = np.zeros((512, 1024), np.int32), np.zeros((512, 1024), np.int32)
    truth[100:140, 200:280] = 1
    prediction[100:140, 200:272] = 1
    assert compare_as_poster(truth, prediction).object_hausdorff == (4 + 0) / 2


def test_mean_over_images():
    assert mean([PosterMetrics(1, 0.5, 10, 1), PosterMetrics(0, 1, 20, 0.5)]) == PosterMetrics(
        0.5, 0.75, 15, 0.75
    )
    with pytest.raises(ValueError, match="at least one"):
        mean([])


def test_other_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"truth \(3, 4\) prediction \(4, 3\)"):
        compare_as_poster(np.zeros((3, 4), int), np.zeros((4, 3), int))
