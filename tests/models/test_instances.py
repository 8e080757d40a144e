"""From detections to a label map: who gets which pixel, by hand."""

import cv2
import numpy as np
import pytest
import torch

from searcher.models.boxes import find_instances, mask_targets
from searcher.models.instances import instances_from_detections
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Detections

SIZE = (8, 12)


def detections(*found: tuple[list[float], float], masks: dict[int, np.ndarray] | None = None) -> Detections:
    """Boxes with scores; each mask is full unless given."""
    cells = [np.ones((4, 4), np.float32) if i not in (masks or {}) else masks[i] for i in range(len(found))]
    return Detections(
        SIZE,
        np.array([box for box, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score in found], np.float32),
        np.array(cells, np.float32).reshape(-1, 4, 4),
    )


def cut(found: Detections, **settings) -> tuple[np.ndarray, list[float]]:
    prediction = instances_from_detections(found, PostprocessSettings(**settings))
    assert prediction.labels.dtype == np.int32
    assert prediction.scores.dtype == np.float32
    return prediction.labels, prediction.scores.tolist()


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_a_full_mask_fills_its_box():
    labels, scores, *_ = cut(detections(([2, 1, 7, 5], 0.75)))
    np.testing.assert_array_equal(labels, rectangle(2, 1, 7, 5))
    assert scores == [0.75]


def test_a_pixel_belongs_to_a_box_that_covers_its_centre():
    labels, _ = cut(detections(([1.6, 0.4, 4.4, 2.6], 0.9)))
    np.testing.assert_array_equal(labels, rectangle(2, 0, 4, 3))


def test_what_reaches_beyond_the_image_is_cut():
    labels, _ = cut(detections(([-3, -3, 2, 20], 0.9)))
    np.testing.assert_array_equal(labels, rectangle(0, 0, 2, 8))


def test_the_higher_score_keeps_the_pixels_and_the_lower_label():
    labels, scores, *_ = cut(detections(([0, 0, 4, 8], 0.6), ([2, 0, 8, 8], 0.9)))
    np.testing.assert_array_equal(labels == 1, rectangle(2, 0, 8, 8))
    np.testing.assert_array_equal(labels == 2, rectangle(0, 0, 2, 8))
    assert scores == pytest.approx([0.9, 0.6])


@pytest.mark.parametrize(("max_overlap", "count"), [(0.5, 2), (0.49, 1), (0.0, 1), (1.0, 2)])
def test_what_better_ones_mostly_cover_was_found_before(max_overlap, count):
    half_covered = detections(([0, 0, 4, 8], 0.6), ([2, 0, 8, 8], 0.9))
    assert len(cut(half_covered, max_overlap=max_overlap)[1]) == count


def test_what_is_covered_whole_never_gets_a_label():
    _, scores = cut(detections(([2, 2, 4, 4], 0.6), ([0, 0, 8, 8], 0.9)), max_overlap=1.0)
    assert scores == pytest.approx([0.9])


@pytest.mark.parametrize(("min_score", "kept"), [(0.0, 3), (0.25, 2), (0.3, 2), (0.5, 1), (0.75, 0)])
def test_scores_up_to_the_threshold_are_dropped(min_score, kept):
    found = detections(([0, 0, 2, 2], 0.75), ([4, 0, 6, 2], 0.5), ([8, 0, 10, 2], 0.25))
    assert len(cut(found, min_score=min_score)[1]) == kept


def test_the_area_is_counted_where_pixels_are_left():
    found = detections(([0, 0, 4, 8], 0.6), ([2, 0, 8, 8], 0.9))  # 16 of 32 and 48 pixels
    assert cut(found, min_object_area_px=16)[1] == pytest.approx([0.9, 0.6])
    assert cut(found, min_object_area_px=17)[1] == pytest.approx([0.9])


def test_one_that_is_too_small_leaves_its_pixels_to_the_next():
    found = detections(([2, 2, 4, 4], 0.9), ([0, 0, 8, 8], 0.6))
    labels, scores, *_ = cut(found, min_object_area_px=5)
    np.testing.assert_array_equal(labels, rectangle(0, 0, 8, 8))
    assert scores == pytest.approx([0.6])


def test_holes_are_filled_before_anybody_else_gets_them():
    ring = np.ones((4, 4), np.float32)
    ring[1:3, 1:3] = 0
    found = detections(([0, 0, 8, 8], 0.9), ([3, 3, 5, 5], 0.8), masks={0: ring})
    filled, scores = cut(found)
    np.testing.assert_array_equal(filled, rectangle(0, 0, 8, 8))
    assert len(scores) == 1
    kept, scores = cut(found, fill_holes=False)
    assert kept[3, 3] == 2
    assert len(scores) == 2


def test_the_threshold_moves_the_border_between_two_cells():
    slope = np.tile(np.array([1.0, 1.0, 0.0, 0.0], np.float32), (4, 1))
    found = detections(([0, 0, 8, 8], 0.9), masks={0: slope})
    # The cells' centres lie at columns 1, 3, 5, 7; the probability falls from 3 to 5, so at the pixels' centres
    # 3.5 and 4.5 it is 0.75 and 0.25.
    for threshold, width in ((0.2, 5), (0.5, 4), (0.8, 3)):
        np.testing.assert_array_equal(cut(found, threshold=threshold)[0], rectangle(0, 0, width, 8))


def test_nothing_found():
    labels, scores, *_ = cut(detections())
    assert labels.shape == SIZE
    assert not labels.any()
    assert scores == []


@pytest.mark.parametrize("radius", [4, 15, 60])
def test_masks_of_a_disc_bring_the_disc_back(radius):
    truth = np.zeros((160, 200), np.int32)
    cv2.circle(truth, (100, 80), radius, 1, -1)
    instances = find_instances(torch.from_numpy(truth))
    masks = mask_targets(torch.from_numpy(truth), instances.labels, instances.boxes, size=28).numpy()
    found = Detections(truth.shape, instances.boxes.numpy(), np.array([0.9], np.float32), masks)
    labels = instances_from_detections(found, PostprocessSettings()).labels
    dice = 2 * np.count_nonzero(labels * truth) / (np.count_nonzero(labels) + np.count_nonzero(truth))
    assert dice > 0.97
