"""Warps: only the part of an image that is seen is looked at, and that makes no difference."""

import cv2
import numpy as np
import pytest

from data_pipeline.warp import Warp, draw_warp, resample


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
        same = out_labels == cv2.remap(labels, warp.x, warp.y, cv2.INTER_NEAREST, **border)
        assert same.mean() > 0.99


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
    resample(image, labels, Warp(x, y), np.empty((4, 4, 3), np.uint8), out_labels)
    expected = [-p if p < 0 else 118 - p if p > 59 else p for p in places.tolist()]
    assert out_labels.tolist() == [expected] * 4
