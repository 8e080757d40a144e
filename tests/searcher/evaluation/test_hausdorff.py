"""What the exactness of the distances rests on, each claim alone."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from searcher.evaluation.hausdorff import (
    _ROUNDING_SAFE_PX,
    _TRANSFORM_ERROR,
    nearest_hausdorff,
    pair_hausdorff,
)
from searcher.evaluation.labelled_objects import LabelledObjects


@pytest.fixture(params=[1, 2])
def opencv_threads(request):
    """OpenCV's transform takes another, coarser way on one thread, which is what a stream leaves it with."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(request.param)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("opencv_threads")
@pytest.mark.parametrize("shape", [(50, 60), (522, 775), (300, 5000), (2000, 1500)])
@pytest.mark.parametrize("num_targets", [1, 3, 500])
def test_this_opencvs_transform_is_as_precise_as_the_distances_rely_on(shape, num_targets):
    rng = np.random.default_rng(num_targets)
    mask = np.ones(shape, np.uint8)
    mask[rng.integers(0, shape[0], num_targets), rng.integers(0, shape[1], num_targets)] = 0
    opencv = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    exact = distance_transform_edt(mask)
    np.testing.assert_allclose(opencv, exact, rtol=_TRANSFORM_ERROR)
    safe = exact < _ROUNDING_SAFE_PX
    np.testing.assert_array_equal(np.rint(opencv[safe] ** 2), np.rint(exact[safe] ** 2))


@pytest.mark.usefixtures("opencv_threads")
@pytest.mark.parametrize("seed", range(3))
def test_distances_beyond_the_safe_range_are_exact_too(seed):
    """Against SciPy's exact transform; a big object far from a small one, several hundred to 1,500 px."""
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros((1200, 1400), np.int32), np.zeros((1200, 1400), np.int32)
    truth[: rng.integers(100, 300), : rng.integers(100, 400)] = 1
    y, x = rng.integers(500, 1000), rng.integers(500, 1200)
    prediction[y : y + 90, x : x + 80] = 1
    prediction[rng.integers(0, 1200), rng.integers(0, 1400)] = 1
    expected = max(
        distance_transform_edt(prediction == 0)[truth > 0].max(),
        distance_transform_edt(truth == 0)[prediction > 0].max(),
    )
    [found] = pair_hausdorff(LabelledObjects(truth), LabelledObjects(prediction), np.array([[0, 0]]))
    assert round(found**2) == round(expected**2)
    assert abs(found - expected) < 1e-9


def test_border_is_what_has_a_neighbour_outside():
    labels = np.zeros((6, 7), np.int32)
    labels[1:5, 1:6] = 5
    labels[3, 3] = 0
    border = {tuple(point) for point in LabelledObjects(labels).border.of(0).tolist()}
    inner = {(2, 2), (2, 4)}  # (2, 3), (3, 2), (3, 4) touch the hole, all others the outside
    assert border == {tuple(point) for point in np.argwhere(labels).tolist()} - inner


def test_border_includes_the_images_edge():
    border = LabelledObjects(np.ones((4, 4), np.int32)).border.of(0)
    assert len(border) == 12


def test_points_belong_to_their_object():
    labels = np.array([[9, 0, 4], [4, 9, 0]])
    objects = LabelledObjects(labels)
    assert objects.values.tolist() == [4, 9]
    assert objects.areas.tolist() == [2, 2]
    assert objects.pixels.of(0).tolist() == [[0, 2], [1, 0]]
    assert objects.pixels.of(1).tolist() == [[0, 0], [1, 1]]
    assert objects.boxes.tolist() == [[0, 0, 2, 3], [0, 0, 2, 2]]


def test_nothing_asked_nothing_measured():
    objects = LabelledObjects(np.ones((3, 3), np.int32))
    assert pair_hausdorff(objects, objects, np.empty((0, 2), np.int64)).shape == (0,)
    assert nearest_hausdorff(objects, objects, np.empty(0, np.int64)).shape == (0,)


def test_nearest_equals_measuring_all():
    """Best-first search against every pair measured, on shapes whose bounds are poor: long, bent, nested."""
    rng = np.random.default_rng(0)
    a, b = np.zeros((120, 160), np.int32), np.zeros((120, 160), np.int32)
    for label in range(1, 25):
        for labels in (a, b):
            points = np.column_stack([rng.integers(0, 160, 3), rng.integers(0, 120, 3)]).astype(np.int32)
            cv2.polylines(labels, [points], bool(rng.integers(2)), label, int(rng.integers(1, 6)))
    objects, others = LabelledObjects(a), LabelledObjects(b)
    every = np.array([[i, j] for i in range(len(objects)) for j in range(len(others))])
    smallest = pair_hausdorff(objects, others, every).reshape(len(objects), len(others)).min(axis=1)
    np.testing.assert_array_equal(nearest_hausdorff(objects, others, np.arange(len(objects))), smallest)
