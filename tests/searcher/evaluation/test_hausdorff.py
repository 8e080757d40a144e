"""What the exactness of the distances rests on, each claim alone."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from searcher.evaluation.hausdorff import nearest_hausdorff, pair_hausdorff
from searcher.evaluation.objects import LabelledObjects


@pytest.mark.parametrize("shape", [(50, 60), (522, 775), (300, 5000), (2000, 1500)])
@pytest.mark.parametrize("num_targets", [1, 3, 500])
def test_this_opencvs_transform_is_precise_but_for_float32(shape, num_targets):
    rng = np.random.default_rng(num_targets)
    mask = np.ones(shape, np.uint8)
    mask[rng.integers(0, shape[0], num_targets), rng.integers(0, shape[1], num_targets)] = 0
    opencv = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    exact = distance_transform_edt(mask)
    np.testing.assert_allclose(opencv, exact, rtol=2e-7)
    safe = exact < 1000
    np.testing.assert_array_equal(np.rint(opencv[safe] ** 2), np.rint(exact[safe] ** 2))


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
