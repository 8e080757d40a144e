"""Warps: only the part of an image that is seen is looked at, and that makes no difference."""

import cv2
import numpy as np
import pytest

from searcher.data_pipeline.warp import Warp, draw_warp, resample, separate_reflections


@pytest.mark.parametrize("shape", [(60, 90), (40, 40), (200, 31), (7, 500), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_the_same_as_looking_at_the_whole_image(shape: tuple[int, int], dtype: type) -> None:
    """Also where a crop reaches beyond the border on one side or both, and sees the reflection."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    labels = rng.integers(0, 60_000, shape).astype(dtype)
    for _ in range(40):
        warp = draw_warp(shape, 48, 1.5, rng)
        out_image, out_labels = np.empty((48, 48, 3), np.uint8), np.empty((48, 48), np.int32)
        resample(image, labels, warp, out_image, out_labels)
        border = {"borderMode": cv2.BORDER_REFLECT_101}
        expected = cv2.remap(image, warp.x, warp.y, cv2.INTER_LINEAR, **border)
        # Coordinates from another origin round differently in the last of OpenCV's 5 fractional bits.
        assert np.abs(out_image.astype(int) - expected).max() <= 16
        assert np.abs(out_image.astype(int) - expected).mean() < 0.5
        outside = (warp.y < 0) | (warp.y > shape[0] - 1) | (warp.x < 0) | (warp.x > shape[1] - 1)
        same = out_labels == cv2.remap(labels, warp.x, warp.y, cv2.INTER_NEAREST, **border)
        assert same[~outside].mean() > 0.99 if not outside.all() else True


def test_by_hand() -> None:
    """Looking 1 px to the right and at half rows: labels from there, the image halfway between two rows."""
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1], image[1, 1] = 100, 200
    labels = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    warp = Warp(np.array([[1, 2], [1, 2]], np.float32), np.array([[0.5, 0], [1, 1]], np.float32))
    out_image, out_labels = np.empty((2, 2, 3), np.uint8), np.empty((2, 2), np.int32)
    resample(image, labels, warp, out_image, out_labels)
    assert out_image[..., 0].tolist() == [[150, 0], [200, 0]]
    assert out_labels[0, 1] == 3
    assert out_labels[1].tolist() == [5, 6]


def test_images_longer_than_opencv_takes() -> None:
    """OpenCV's remap refuses 32,768 px; a crop of such an image is still a crop."""
    image = np.zeros((40, 40_000, 3), np.uint8)
    labels = np.broadcast_to(np.arange(40_000, dtype=np.int32), (40, 40_000))
    rng = np.random.default_rng(1)
    for _ in range(5):
        warp = draw_warp((40, 40_000), 32, 1.0, rng)
        out_image, out_labels = np.empty((32, 32, 3), np.uint8), np.empty((32, 32), np.int32)
        resample(image, labels, warp, out_image, out_labels)
        assert np.abs(out_labels - warp.x).max() <= 0.52


@pytest.mark.parametrize("first", [-20, -3, 0, 45, 58, 62, 75])
def test_places_beyond_the_border_are_its_reflection(first: int) -> None:
    """By hand: beyond 0 the axis counts back up, beyond the last pixel, 59, back down."""
    labels = np.broadcast_to(np.arange(60, dtype=np.int32), (4, 60)).copy()
    image = np.zeros((4, 60, 3), np.uint8)
    places = np.arange(first, first + 4)
    x = np.broadcast_to(places.astype(np.float32), (4, 4)).copy()
    y = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (4, 4)).copy()
    out_labels = np.empty((4, 4), np.int32)
    out_image = np.empty((4, 4, 3), np.uint8)
    image[..., 0] = labels
    resample(image, labels, Warp(x, y), out_image, out_labels)
    expected = [-p if p < 0 else 118 - p if p > 59 else p for p in places.tolist()]
    assert out_image[..., 0].tolist() == [expected] * 4
    inside = [0 <= p < 60 for p in places.tolist()]
    assert [label for label, is_inside in zip(out_labels[0].tolist(), inside, strict=True) if is_inside] == [
        label for label, is_inside in zip(expected, inside, strict=True) if is_inside
    ]


def reflected_row(labels: list[int], is_reflected: list[bool]) -> list[int]:
    row = np.array([labels], np.int32)
    separate_reflections(row, np.array([is_reflected]))
    return row[0].tolist()


def test_reflections_become_instances_of_their_own_unless_they_grow_out_of_theirs() -> None:
    beyond = [True] * 4 + [False] * 5
    # 7 lies off the border at 4: its image is apart. 3 reaches the border: with its image it is one.
    assert reflected_row([0, 7, 0, 3, 3, 0, 7, 0, 0], beyond) == [0, 1, 0, 3, 3, 0, 7, 0, 0]
    # Two images of one instance are two; labels in use are not given again.
    assert reflected_row([7, 0, 7, 0, 0, 7, 1, 2, 0], beyond) == [3, 0, 4, 0, 0, 7, 1, 2, 0]
    assert reflected_row([7, 0, 7, 0, 0, 7, 0, 0, 0], [False] * 9) == [7, 0, 7, 0, 0, 7, 0, 0, 0]


def test_a_reflected_gland_has_its_own_label_in_a_crop() -> None:
    labels = np.zeros((40, 40), np.uint16)
    labels[4:10, 12:20] = 5
    y, x = np.meshgrid(np.arange(-15, 17), np.arange(4, 36), indexing="ij")
    out = np.empty((32, 32), np.int32)
    warp = Warp(x.astype(np.float32), y.astype(np.float32))
    resample(np.zeros((40, 40, 3), np.uint8), labels, warp, np.empty((32, 32, 3), np.uint8), out)
    assert np.unique(out[15 + 4 : 15 + 10, 8:16]).tolist() == [5]
    assert np.unique(out[15 - 9 : 15 - 3, 8:16]).tolist() == [1]
    assert np.count_nonzero(out) == 2 * 48
