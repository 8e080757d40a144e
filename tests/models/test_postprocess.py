"""From probabilities to instances: each step by an example, the whole against SciPy and scikit-image."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.measure import label, regionprops

from models.postprocess import fill_holes, instances_from_probability
from models.settings import PostprocessSettings


def picture(*rows: str) -> np.ndarray:
    """Probability 0.9 at `#`, 0.1 at `.`."""
    return np.array([[0.9 if c == "#" else 0.1 for c in line] for line in rows], np.float32)


def labels_of(probability: np.ndarray, **settings) -> list[str]:
    found = instances_from_probability(probability, PostprocessSettings(**settings)).labels
    return ["".join(".123456789"[value] for value in line) for line in found]


def test_a_pixel_at_the_threshold_is_background():
    probability = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert labels_of(probability, threshold=0.5) == [".1"]


def test_pixels_that_touch_over_a_corner_are_one_instance():
    assert labels_of(picture("#..#", ".#..", "...#")) == ["1..2", ".1..", "...3"]


def test_labels_follow_the_first_pixel_row_by_row():
    assert labels_of(picture("....#", "#...#", "#.#..")) == ["....1", "2...1", "2.3.."]


def test_a_hole_is_filled_also_behind_a_diagonal_wall():
    assert labels_of(picture(".#..", "#.#.", ".#..")) == [".1..", "111.", ".1.."]


def test_a_bay_open_to_the_border_is_no_hole():
    assert labels_of(picture("##.", "#.#", "#.#")) == ["11.", "1.1", "1.1"]


def test_an_island_in_a_lumen_belongs_to_the_gland():
    assert labels_of(picture("#####", "#...#", "#.#.#", "#...#", "#####")) == ["11111"] * 5


def test_holes_stay_when_asked():
    assert labels_of(picture("###", "#.#", "###"), fill_holes=False) == ["111", "1.1", "111"]


def test_small_instances_go_and_labels_close_up():
    probability = picture("#.##.###", "........")
    assert labels_of(probability, min_object_area_px=2) == ["..11.222", "........"]
    assert labels_of(probability, min_object_area_px=3) == [".....111", "........"]


def test_a_filled_hole_counts_to_the_area():
    assert labels_of(picture("###", "#.#", "###"), min_object_area_px=9) == ["111", "111", "111"]


def test_scores_are_mean_probabilities_holes_included():
    probability = picture("###..#", "#.#..#", "###...")
    probability[0, 5] = 0.7
    prediction = instances_from_probability(probability, PostprocessSettings())
    assert prediction.scores.dtype == np.float32
    assert prediction.scores.tolist() == pytest.approx([(8 * 0.9 + 0.1) / 9, (0.7 + 0.9) / 2])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything(value):
    prediction = instances_from_probability(np.full((3, 4), value, np.float32), PostprocessSettings())
    assert prediction.labels.dtype == np.int32
    assert prediction.labels.tolist() == [[int(value)] * 4] * 3
    assert prediction.scores.tolist() == [1.0] * int(value)


@pytest.mark.parametrize("sigma", [0.0, 1.5, 6.0])
@pytest.mark.parametrize("min_area", [0, 40])
@pytest.mark.parametrize("fill", [True, False])
def test_equals_scipy_and_scikit_image(sigma, min_area, fill):
    noise = gaussian_filter(np.random.default_rng(0).random((180, 230)), sigma).astype(np.float32)
    threshold = float(np.median(noise))
    mask = noise > threshold
    if fill:
        mask = binary_fill_holes(mask)
    expected = label(mask, connectivity=2)
    for region in regionprops(expected):
        if region.area < min_area:
            expected[expected == region.label] = 0
    expected = label(expected > 0, connectivity=2)
    settings = PostprocessSettings(threshold=threshold, min_object_area_px=min_area, fill_holes=fill)
    prediction = instances_from_probability(noise, settings)
    np.testing.assert_array_equal(prediction.labels, expected)
    means = [region.intensity_mean for region in regionprops(expected, noise)]
    np.testing.assert_allclose(prediction.scores, means, rtol=1e-5)


def test_the_number_of_threads_changes_no_label():
    noise = gaussian_filter(np.random.default_rng(1).random((600, 800)), 2).astype(np.float32)
    settings, before = PostprocessSettings(threshold=float(np.median(noise))), cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(instances_from_probability(noise, settings).labels)
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("seed", range(5))
def test_filling_equals_scipy(seed):
    mask = (np.random.default_rng(seed).random((40, 50)) < 0.6).astype(np.uint8)
    np.testing.assert_array_equal(fill_holes(mask), binary_fill_holes(mask))


def test_filling_leaves_its_input_alone():
    mask = np.ones((3, 3), np.uint8)
    mask[1, 1] = 0
    fill_holes(mask)
    assert mask[1, 1] == 0
