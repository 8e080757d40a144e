"""Outlines, filled again, are the object's pixels; rings are simple, closed and turn the right way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import mapped

from data_pipeline.tiling import Tile
from searcher.prediction import outlines
from searcher.prediction.outlines import outline


def outlined(mask: np.ndarray, folder):
    with mapped(mask.astype(np.int32), folder) as labels:
        return outline(labels, 1, Tile(0, 0, *mask.shape))


def crossings(ring, height: int, width: int) -> np.ndarray:
    """Return bool[height, width], where a ring is around a pixel's centre: by rays to the left, pixel by pixel."""
    inside = np.zeros((height, width), bool)
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        assert (ax == bx) != (ay == by), "sides go along rows or columns"
        if ax == bx:
            inside[min(ay, by) : max(ay, by), ax:] ^= True
    return inside


def check(mask: np.ndarray, folder) -> int:
    polygons = outlined(mask, folder)
    filled = np.zeros(mask.shape, int)
    for polygon in polygons:
        one = crossings(polygon.exterior, *mask.shape)
        for ring in polygon.holes:
            hole = crossings(ring, *mask.shape)
            assert not (hole & ~one).any(), "a hole lies in its polygon"
            one &= ~hole
        filled += one
        for ring, sign in [(polygon.exterior, 1), *((hole, -1) for hole in polygon.holes)]:
            assert len(set(ring)) == len(ring) >= 4, "no ring meets itself"
            x, y = np.array([*ring, ring[0]]).T
            assert sign * (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0, "RFC 7946: exteriors counterclockwise"
    np.testing.assert_array_equal(filled, mask.astype(int))
    return len(polygons)


def test_a_pixel_by_hand(tmp_path):
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    [polygon] = outlined(mask, tmp_path)
    assert sorted(polygon.exterior) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert polygon.holes == []


@pytest.mark.parametrize("block_px", [3, 2048])
@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 14), width=st.integers(1, 14), seed=st.integers(0, 10**6),
    density=st.sampled_from([0.3, 0.5, 0.7, 0.9]),
)  # fmt: skip
def test_any_mask_comes_back(tmp_path_factory, block_px, height, width, seed, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    if mask.any():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outlines, "_BLOCK_PX", block_px)
            check(mask, tmp_path_factory.mktemp("scratch"))


def test_diagonal_parts_are_polygons_of_their_own_and_holes_may_meet(tmp_path):
    assert check(np.eye(3, dtype=bool), tmp_path) == 3
    holes = np.ones((6, 6), bool)
    holes[2, 2] = holes[3, 3] = False
    assert check(holes, tmp_path) == 1
    island = np.ones((7, 7), bool)
    island[1:6, 1:6] = False
    island[1, 1] = False
    island[2:5, 2:5] = True
    island[3, 3] = False
    island[5, 5] = True
    assert check(island, tmp_path) == 2, "an island in a hole, with a hole of its own, joined diagonally"


def test_neighbours_have_sides_in_common_and_nothing_else(tmp_path):
    labels = np.array([[1, 1, 2, 2], [1, 2, 2, 0]])
    with mapped(labels, tmp_path) as there:
        for number in (1, 2):
            [polygon] = outline(there, number, Tile(0, 0, 2, 4))
            np.testing.assert_array_equal(crossings(polygon.exterior, 2, 4), labels == number)
