"""From probabilities to instances: each step by an example, the whole against SciPy and scikit-image."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from searcher.models.postprocess import fill_holes, instances_from_probability, instances_from_seed_map
from searcher.models.settings import PostprocessSettings


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


# ---- smoothing ----


def test_smoothing_is_scipys_gaussian():
    noise = np.random.default_rng(3).random((90, 110)).astype(np.float32)
    # OpenCV's Gaussian for floats reaches 4 standard deviations; BORDER_REFLECT_101 is SciPy's mirror.
    smooth = gaussian_filter(noise, 2.0, mode="mirror", truncate=4.0)
    assert np.abs(smooth - 0.5).min() > 1e-6  # no pixel hangs on rounding
    settings = PostprocessSettings(smoothing_sigma_px=2.0, fill_holes=False)
    prediction = instances_from_probability(noise, settings)
    np.testing.assert_array_equal(prediction.labels, label(smooth > 0.5, connectivity=2))


# ---- seeds ----

LEVELS = {".": (0.1, 0.0), "-": (0.9, 0.2), "+": (0.9, 0.4), "#": (0.9, 0.8), "o": (0.4, 0.8)}
"""Probability and seed map: background; foreground with a low, a higher and a seed's value; a seed's value outside."""


def cored(*rows: str, **settings) -> list[str]:
    maps = np.array([[LEVELS[c] for c in line] for line in rows], np.float32)
    found = instances_from_seed_map(maps[..., 0], maps[..., 1], PostprocessSettings(**settings)).labels
    return ["".join(".123456789"[value] for value in line) for line in found]


def test_a_component_with_two_cores_is_two_instances():
    assert cored("##+-+##", "##+-+##") in (["1111222"] * 2, ["1112222"] * 2)


def test_components_with_one_core_or_none_are_one_instance_each():
    assert cored("-#-.--", "......", "##--..") == ["111.22", "......", "3333.."]


def test_a_component_without_a_core_goes_when_asked():
    assert cored("-#-.--", keep_unseeded=False) == ["111..."]


def test_a_core_outside_the_foreground_is_none():
    assert cored("oo.--", keep_unseeded=False) == ["....."]


def test_cores_meet_where_the_core_is_lowest():
    """Each floods its slope down to the valley, however near the other seed is."""
    assert cored("#++++-#")[0][:5] == "11111"
    assert cored("#-++++#")[0][2:] == "22222"


def test_a_small_core_grows_nothing():
    assert cored("##+-+#", min_seed_area_px=2) == ["111111"]
    assert cored("##+-+#.#", min_seed_area_px=2, keep_unseeded=False) == ["111111.."]


def test_the_seed_threshold_decides_what_is_a_seed():
    assert max(cored("++-#-++", seed_threshold=0.3)[0]) == "3"
    assert max(cored("++-#-++", seed_threshold=0.5)[0]) == "1"


def test_a_hole_of_one_instance_is_filled_and_one_between_two_is_not():
    rows = ["###-+###", "#.#-+#.#", "###..###", "###-+###"]
    found = cored(*rows)
    assert found[1][1] == "1"
    assert found[1][6] == "2"
    assert [row[3:5].replace("1", "x").replace("2", "x") for row in found] == ["xx", "xx", "..", "xx"]
    assert cored(*rows, fill_holes=False)[1][1] == "."


def test_an_instance_inside_a_hole_belongs_to_the_one_around_it():
    """As for a binary mask: an island in a lumen is of the gland."""
    assert cored("#####", "#...#", "#.#.#", "#...#", "#####") == ["11111"] * 5
    assert cored("#####", "#---#", "#-#-#", "#---#", "#####") == ["11111"] * 5


def test_small_instances_go_after_the_split():
    assert cored("####-#", min_object_area_px=3)[0][:4] == "1111"
    assert cored("####-#", min_object_area_px=3)[0][5] == "."


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("min_area", [0, 40])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_without_several_cores_in_a_component_it_is_the_binary_result(fill, min_area, sigma):
    noise = gaussian_filter(np.random.default_rng(3).random((180, 230)), 3).astype(np.float32)
    settings = PostprocessSettings(
        threshold=float(np.median(noise)),
        fill_holes=fill,
        min_object_area_px=min_area,
        smoothing_sigma_px=sigma,
        seed_threshold=0.5,
    )
    expected = instances_from_probability(noise, settings)
    found = instances_from_seed_map(noise, np.zeros_like(noise), settings)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(expected.scores) > 5


def overlapping_discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Foreground of discs that run into each other, and how deep in it each pixel is, noisy: no two are equal."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((150, 200), np.uint8)
    for _ in range(25):
        y, x, radius = rng.integers(0, 150), rng.integers(0, 200), rng.integers(5, 18)
        cv2.circle(mask, (int(x), int(y)), int(radius), 1, -1)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = depth / depth.max() * 0.98 + rng.random(mask.shape) * 0.02
    return mask.astype(np.float32) * 0.9, depth.astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_those_of_a_watershed_of_the_whole_image(seed):
    """Only components with several seeds are flooded, from the seeds' rims alone: that must change nothing."""
    probability, depth = overlapping_discs(seed)
    settings = PostprocessSettings(fill_holes=False, keep_unseeded=False, seed_threshold=0.4)
    found = instances_from_seed_map(probability, depth, settings).labels
    seeds = label((depth > 0.4) & (probability > 0.5), connectivity=2)
    expected = watershed(-depth, seeds, connectivity=2, mask=probability > 0.5)
    assert seeds.max() > label(probability > 0.5, connectivity=2).max() * 0.5
    np.testing.assert_array_equal(found > 0, expected > 0)
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == seeds.max() + 1  # one to one
    assert found.max() == seeds.max()


def test_labels_of_split_instances_follow_the_first_pixel_row_by_row():
    probability, depth = overlapping_discs(9)
    found = instances_from_seed_map(probability, depth, PostprocessSettings(seed_threshold=0.4)).labels
    first = [int(np.flatnonzero(found == each)[0]) for each in range(1, found.max() + 1)]
    assert len(first) > 3
    assert first == sorted(first)


def test_scores_of_split_instances_are_their_mean_probabilities():
    probability, depth = overlapping_discs(9)
    probability *= np.random.default_rng(0).uniform(0.9, 1, probability.shape).astype(np.float32)
    prediction = instances_from_seed_map(probability, depth, PostprocessSettings(seed_threshold=0.4))
    means = [region.intensity_mean for region in regionprops(prediction.labels, probability)]
    np.testing.assert_allclose(prediction.scores, means, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_maps_of_one_value_are_one_instance_or_none(shape, value):
    maps = np.full(shape, value, np.float32)
    prediction = instances_from_seed_map(maps, maps, PostprocessSettings(smoothing_sigma_px=1.0))
    assert prediction.labels.dtype == np.int32
    assert (prediction.labels == value).all()
    assert prediction.scores.tolist() == pytest.approx([1.0] * int(value))
    assert (prediction.scores <= 1).all()


def test_maps_are_left_alone():
    probability, depth = overlapping_discs(2)
    before = probability.copy(), depth.copy()
    instances_from_seed_map(
        probability, depth, PostprocessSettings(seed_threshold=0.4, smoothing_sigma_px=1.5)
    )
    np.testing.assert_array_equal(probability, before[0])
    np.testing.assert_array_equal(depth, before[1])
