"""Tiles cover every pixel, and what is computed on them is put together without a trace."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from searcher.data_pipeline import Tile, apply_tiled, stitch, tile_grid
from searcher.data_pipeline.tiling import tiles_seen


def test_known_grid() -> None:
    """By hand: 10 px in tiles of 4 that overlap by at least 1 are 3 tiles at 0, 3 and 6."""
    assert [tile.x for tile in tile_grid(4, 10, tile_px=4, overlap_px=1)] == [0, 3, 6]
    assert list(tile_grid(4, 4, tile_px=4, overlap_px=1)) == [Tile(0, 0, 4, 4)]


def test_an_axis_shorter_than_a_tile_gets_one_of_its_own_length() -> None:
    assert list(tile_grid(3, 8, tile_px=6, overlap_px=4)) == [Tile(0, 0, 3, 6), Tile(0, 2, 3, 6)]
    assert list(tile_grid(3, 5, tile_px=6, overlap_px=4)) == [Tile(0, 0, 3, 5)]


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile_px=st.integers(1, 25), data=st.data())
def test_tiles_cover_the_image_overlap_enough_and_stay_inside(
    height: int, width: int, tile_px: int, data
) -> None:
    overlap_px = data.draw(st.integers(0, tile_px - 1))
    tiles = tile_grid(height, width, tile_px=tile_px, overlap_px=overlap_px)
    covered = np.zeros((height, width), bool)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(tile_px, height), min(tile_px, width))
        assert tile.y + tile.height <= height
        assert tile.x + tile.width <= width
        covered[tile.window] = True
    assert covered.all()
    for starts, size in (({t.y for t in tiles}, tiles[0].height), ({t.x for t in tiles}, tiles[0].width)):
        ordered = sorted(starts)
        assert all(b - a <= size - overlap_px for a, b in pairwise(ordered))


def pointwise(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two channels, each pixel on its own."""
    return np.stack([image[..., 0] / np.float32(255), np.sqrt(image[..., 1:].sum(axis=-1, dtype=np.float32))])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (50, 70), (64, 64), (131, 67), (20, 300)])
@pytest.mark.parametrize(("tile_px", "overlap_px"), [(32, 8), (64, 0), (33, 32), (512, 64)])
def test_a_pointwise_function_gives_the_same_tiled_as_whole(
    height: int, width: int, tile_px: int, overlap_px: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tiled = apply_tiled(pointwise, image, tile_px=tile_px, overlap_px=overlap_px)
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, pointwise(image), rtol=1e-5)


def test_tiles_are_made_as_they_are_asked_for() -> None:
    """10^6 x 10^6 px in tiles of 512 that overlap by 0 are 1954^2 tiles; the last ends where the image does."""
    tiles = tile_grid(10**6, 10**6, tile_px=512, overlap_px=0)
    assert len(tiles) == 1954**2
    assert tiles[-1] == Tile(10**6 - 512, 10**6 - 512, 512, 512)
    assert list(tiles[1:2]) == [Tile(0, tiles[1].x, 512, 512)]


def test_no_seam_shows_where_tiles_disagree() -> None:
    """Two tiles that say 0 and 1 blend into a straight ramp across their overlap: no step above 1 / overlap."""
    left, right = tile_grid(4, 14, tile_px=9, overlap_px=4)
    parts = [(left, np.zeros((1, 4, 9), np.float32)), (right, np.ones((1, 4, 9), np.float32))]
    made = stitch(parts, 4, 14, overlap_px=4)[0]
    # By hand: weights 4/5, 3/5, 2/5, 1/5 of the left tile over its last four pixels, the right one's the reverse.
    expected = [0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(made, [expected] * 4, atol=1e-6)


def test_errors_at_a_tiles_edge_are_mostly_hidden() -> None:
    """A function that is off by one at each tile's border, as a network without context, is nearly right."""

    def wrong_at_the_border(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        made = np.ones((1, *image.shape[:2]), np.float32)
        made[:, 1:-1, 1:-1] = 0
        return made

    image = np.zeros((80, 80, 3), np.uint8)
    inner = apply_tiled(wrong_at_the_border, image, tile_px=40, overlap_px=16)[0, 1:-1, 1:-1]
    assert inner.max() < 0.15
    assert apply_tiled(wrong_at_the_border, image, tile_px=40, overlap_px=0)[0, 1:-1, 1:-1].max() == 1


def test_the_function_sees_whole_tiles_and_an_image_that_fits_only_once() -> None:
    shapes: list[tuple[int, ...]] = []

    def record(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        shapes.append(image.shape)
        return np.zeros((1, *image.shape[:2]), np.float32)

    apply_tiled(record, np.zeros((30, 50, 3), np.uint8), tile_px=40, overlap_px=10)
    assert shapes == [(30, 40, 3), (30, 40, 3)]
    shapes.clear()
    apply_tiled(record, np.zeros((30, 40, 3), np.uint8), tile_px=40, overlap_px=10)
    assert shapes == [(30, 40, 3)]


def test_without_a_side_large_images_are_seen_in_tiles_and_others_whole() -> None:
    assert tiles_seen(3000, 4000, tile_px=0, overlap_px=64) == (1024, 128)  # 12 million pixels
    assert tiles_seen(2000, 2000, tile_px=0, overlap_px=64) == (2000, 64)
    assert tiles_seen(1, 30, tile_px=0, overlap_px=64) == (30, 29)
    assert tiles_seen(3000, 4000, tile_px=512, overlap_px=32) == (512, 32)
