"""Targets against definitions written out by SciPy's distance transform, pixel by pixel where maps are small."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from searcher.models.distances import border_distance, sum_of_two_nearest
from searcher.models.targets import border_weight, contour_classes, foreground, inner_distance


def blobs(seed: int, size: tuple[int, int] = (60, 75), number: int = 9, scale: int = 1) -> np.ndarray:
    """Round instances of many sizes; later ones lie on earlier ones, so that many touch and some are in pieces."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    y, x = np.indices(size)
    for label in range(1, number + 1):
        centre_y, centre_x, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(1, 16)
        labels[(y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2] = label * scale
    return labels


MAPS = {
    "blobs": blobs(0),
    "more blobs": blobs(1, number=25),
    "labels with gaps, above 65,535": blobs(2, scale=70_001),
    "high labels on every pixel": blobs(3, scale=70_001) + 5_000,
    "empty": np.zeros((9, 14), np.int32),
    "one pixel": np.eye(1, 1, dtype=np.int32),
    "one row": np.array([[0, 1, 1, 2, 0, 0, 3, 3, 3, 0]], np.int32),
    "one column": np.array([[0, 1, 1, 2, 0, 0, 3, 3, 3, 0]], np.int32).T.copy(),
    "single pixels": np.pad(np.arange(1, 26, dtype=np.int32).reshape(5, 5), 3),
    "every pixel another": np.arange(1, 61, dtype=np.int32).reshape(6, 10),
    "all of the image": np.ones((12, 9), np.int32),
}


@pytest.fixture(params=MAPS)
def label_map(request) -> np.ndarray:
    return MAPS[request.param]


def distance_by_scipy(label_map: np.ndarray) -> np.ndarray:
    """Each instance by itself in the whole image; infinite where there is nothing else."""
    distance = np.zeros(label_map.shape)
    for label in np.unique(label_map[label_map > 0]):
        mask = label_map == label
        distance[mask] = np.inf if mask.all() else distance_transform_edt(mask)[mask]
    return distance


def as_batch(*label_maps: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(label_maps))


# ---- foreground ----


def test_foreground_is_any_label():
    labels = torch.tensor([[[0, 1], [300, 70_000]]], dtype=torch.int32)
    target = foreground(labels)
    assert target.dtype == torch.float32
    assert target.tolist() == [[[[0, 1], [1, 1]]]]


# ---- distance to the border ----


def test_distance_to_the_border_equals_scipy(label_map):
    found = border_distance(label_map)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, distance_by_scipy(label_map).astype(np.float32))


@pytest.mark.parametrize("cap", [0, 1, 4, 1000])
def test_inner_distance_is_it_up_to_the_cap_by_the_instances_largest(label_map, cap):
    expected = np.minimum(distance_by_scipy(label_map), cap or np.inf)
    for label in np.unique(label_map[label_map > 0]):
        mask = label_map == label
        expected[mask] = 1 if mask.all() else expected[mask] / expected[mask].max()
    target = inner_distance(as_batch(label_map), cap_px=cap)
    assert target.dtype == torch.float32
    assert target.shape == (1, 1, *label_map.shape)
    np.testing.assert_allclose(target[0, 0], expected, rtol=1e-6)


def test_inner_distance_by_hand():
    """Strips of 5 and 2 that touch; towards each other and background they fall, not towards the image's border."""
    labels = as_batch(np.array([[1, 1, 1, 1, 1, 2, 2, 0]], np.int32))
    expected = [5 / 5, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 1 / 1, 1 / 1, 0]
    assert inner_distance(labels, cap_px=0)[0, 0, 0].tolist() == pytest.approx(expected)
    capped = [3 / 3, 3 / 3, 3 / 3, 2 / 3, 1 / 3, 1 / 1, 1 / 1, 0]
    assert inner_distance(labels, cap_px=3)[0, 0, 0].tolist() == pytest.approx(capped)


def test_targets_of_a_batch_are_those_of_its_images():
    first, second = blobs(4), blobs(5)
    for target in (
        lambda labels: inner_distance(labels, cap_px=5),
        lambda labels: border_weight(labels, weight=3.0, sigma_px=2.0),
        lambda labels: contour_classes(labels, width_px=2),
    ):
        both = target(as_batch(first, second))
        assert torch.equal(both, torch.cat([target(as_batch(first)), target(as_batch(second))]))


# ---- contour ----


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 30])
def test_contour_is_what_scipy_finds_near_the_border(label_map, width):
    expected = np.where(label_map > 0, np.where(distance_by_scipy(label_map) <= width, 2, 1), 0)
    classes = contour_classes(as_batch(label_map), width_px=width)
    assert classes.dtype == torch.int64
    np.testing.assert_array_equal(classes[0], expected)


def test_contour_by_hand():
    """Between touching instances both have a contour; towards the image's border there is none."""
    rows = ["11111222", "11111222", "11111000"]
    labels = np.array([[int(c) for c in row] for row in rows], np.int32)
    classes = contour_classes(as_batch(labels), width_px=1)[0]
    assert ["".join(str(c) for c in row) for row in classes.tolist()] == ["11112211", "11112222", "11112000"]


# ---- weights near borders ----


def weights_by_definition(label_map: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """Equation 2 with all distances of all instances in the whole image."""
    distances = [distance_transform_edt(label_map != label) for label in np.unique(label_map[label_map > 0])]
    if len(distances) < 2:
        return np.ones(label_map.shape)
    nearest, second = np.sort(distances, axis=0)[:2]
    return 1 + w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0, 40.0])
def test_border_weight_equals_the_definition_but_for_what_is_far(label_map, sigma):
    found = border_weight(as_batch(label_map), weight=10.0, sigma_px=sigma)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(
        found[0, 0], weights_by_definition(label_map, 10.0, sigma), rtol=1e-5, atol=10 * np.exp(-8)
    )


def test_border_weight_by_hand():
    """A gap of 3: in its middle 2 + 2 to go, beside an instance 1 + 3; inside 0 and the way to the other."""
    labels = as_batch(np.array([[0, 1, 0, 0, 0, 2]], np.int32))
    weights = border_weight(labels, weight=10.0, sigma_px=4.0)[0, 0, 0]
    expected = [1 + 10 * np.exp(-(d**2) / 32) for d in (1 + 5, 0 + 4, 1 + 3, 2 + 2, 3 + 1, 4 + 0)]
    assert weights.tolist() == pytest.approx(expected)


def test_an_instance_alone_has_no_weight_beside_it():
    assert (border_weight(as_batch(np.eye(9, dtype=np.int32)), weight=10.0, sigma_px=5.0) == 1).all()


def test_an_instance_beyond_reach_is_not_there():
    labels = np.array([[1, 0, 0, 0, 2]], np.int32)
    assert np.isinf(sum_of_two_nearest(labels, reach_px=1)).all()
    assert sum_of_two_nearest(labels, reach_px=2).tolist() == [[np.inf, np.inf, 4, np.inf, np.inf]]
    assert sum_of_two_nearest(labels, reach_px=4).tolist() == [[4, 4, 4, 4, 4]]


def test_targets_leave_their_labels_alone():
    labels = as_batch(blobs(6, scale=70_001))
    before = labels.clone()
    inner_distance(labels, cap_px=5)
    border_weight(labels, weight=1.0, sigma_px=3.0)
    contour_classes(labels, width_px=3)
    assert torch.equal(labels, before)
