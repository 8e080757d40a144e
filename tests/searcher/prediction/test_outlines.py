"""Outlines, filled again, are the object's pixels; rings are simple, closed and turn the right way; GEOS takes them.

`SEARCHER_FUZZ_EXAMPLES=10000` tries that many masks.
"""

import numpy as np
import shapely
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from label_maps import mapped

from searcher.data_pipeline.tiling import Tile
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
    geometry = shapely.MultiPolygon([(polygon.exterior, polygon.holes) for polygon in polygons])
    assert geometry.is_valid, shapely.is_valid_reason(geometry)
    assert all(part.is_valid for part in geometry.geoms)
    assert geometry.area == mask.sum()
    np.testing.assert_array_equal(filled, mask.astype(int))
    return len(polygons)


def test_a_pixel_by_hand(tmp_path):
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    [polygon] = outlined(mask, tmp_path)
    assert sorted(polygon.exterior) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert polygon.holes == []


def noise(height: int, width: int, seed: int, density: float) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < density


def checkerboard(height: int, width: int, seed: int, density: float) -> np.ndarray:
    """A board with a few fields changed."""
    return (np.indices((height, width)).sum(axis=0) % 2 == 0) ^ noise(height, width, seed, density / 5)


def nested(height: int, width: int, seed: int, density: float) -> np.ndarray:
    """Rings 1 px wide around one another, with gaps and bridges."""
    rows, columns = np.indices((height, width))
    depth = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    return (depth % 2 == seed % 2) ^ noise(height, width, seed, density / 8)


def thread(height: int, width: int, seed: int, density: float) -> np.ndarray:
    """A walk that turns now and then, by steps in all 8 directions: a line 1 px wide that meets itself."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    step, place = rng.integers(-1, 2, 2), np.array([height // 2, width // 2])
    for turns in rng.random(2 * (height + width)) < density:
        if turns:
            step = rng.integers(-1, 2, 2)
        place = np.clip(place + step, 0, (height - 1, width - 1))
        mask[tuple(place)] = True
    return mask


# A hole that meets the outside at two corners: 4 pixels above and 5 below are two parts of the object.
CUT_IN_TWO = np.array([[1, 1, 1], [0, 1, 0], [1, 0, 1], [1, 1, 1]], bool)

masks = st.builds(
    lambda kind, height, width, seed, density, is_inverted: kind(height, width, seed, density) ^ is_inverted,
    st.sampled_from([noise, checkerboard, nested, thread]),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 10**6),
    st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]),
    st.booleans(),
)


@examples(200)
@given(mask=masks, block_px=st.sampled_from([3, 7, 2048]))
@example(mask=CUT_IN_TWO, block_px=2048)
@example(mask=CUT_IN_TWO.T, block_px=3)
def test_any_mask_comes_back_from_valid_polygons(tmp_path, monkeypatch, mask, block_px):
    monkeypatch.setattr(outlines, "_BLOCK_PX", block_px)
    if mask.any():
        check(mask, tmp_path)


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
