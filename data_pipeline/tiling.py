"""Large images in overlapping tiles, and what was computed on the tiles put together without a seam."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = [
    "MAX_WHOLE_PX",
    "Tile",
    "apply_tiled",
    "stitch",
    "summed_weights",
    "tile_grid",
    "tile_weight",
    "tiles_seen",
]

MAX_WHOLE_PX = 4_000_000
"""Larger images are seen in tiles, also where no side is given."""
_DEFAULT_TILE_PX, _DEFAULT_OVERLAP_PX = 1024, 128


class Tile(NamedTuple):
    """A rectangle of an image in pixels: top row `y`, left column `x`, height and width."""

    y: int
    x: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The tile as a pair of slices, to index an image's rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


class _Grid(Sequence[Tile]):
    """Tiles row by row, made as they are requested: an image of 10^5 pixels a side has millions."""

    def __init__(self, ys: Sequence[int], xs: Sequence[int], height: int, width: int) -> None:
        self._ys, self._xs = ys, xs
        self._height, self._width = height, width

    def __len__(self) -> int:
        return len(self._ys) * len(self._xs)

    @overload
    def __getitem__(self, index: int) -> Tile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...

    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row, column = divmod(range(len(self))[index], len(self._xs))
        return Tile(self._ys[row], self._xs[column], self._height, self._width)


def tiles_seen(height: int, width: int, *, tile_px: int, overlap_px: int) -> tuple[int, int]:
    """Return the side and the overlap of the tiles that networks process an image in, both in pixels.

    If no side is given, an image of over 4 million pixels is processed in tiles of 1024 px, so that memory stays
    bounded. A smaller image is one tile.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        tile_px: Side that the user gave; 0 for none.
        overlap_px: Overlap that the user gave.
    """
    if tile_px:
        return tile_px, overlap_px
    if height * width > MAX_WHOLE_PX:
        return _DEFAULT_TILE_PX, min(max(overlap_px, _DEFAULT_OVERLAP_PX), _DEFAULT_TILE_PX - 1)
    whole = max(height, width)
    return whole, min(overlap_px, whole - 1)


def tile_grid(height: int, width: int, *, tile_px: int, overlap_px: int) -> Sequence[Tile]:
    """Return tiles of equal size that cover an image, row by row.

    Neighbours overlap by at least `overlap_px`. Tiles are spread evenly, so that none extends beyond the image. If the
    image is narrower or lower than `tile_px`, the tiles have its size there.

    Args:
        height: Height of the image in pixels, at least 1.
        width: Width of the image in pixels, at least 1.
        tile_px: Side of a tile, in pixels.
        overlap_px: Least overlap in pixels, from 0 to `tile_px` - 1.
    """
    assert height >= 1, height
    assert width >= 1, width
    assert 0 <= overlap_px < tile_px, (overlap_px, tile_px)
    tile_height, tile_width = min(tile_px, height), min(tile_px, width)
    ys, xs = _starts(height, tile_height, overlap_px), _starts(width, tile_width, overlap_px)
    return _Grid(ys, xs, tile_height, tile_width)


def stitch(
    parts: Iterable[tuple[Tile, NDArray[np.float32]]], height: int, width: int, *, overlap_px: int
) -> NDArray[np.float32]:
    """Return the weighted mean of overlapping tiles' maps as one map, float32[C, height, width].

    A tile's weight rises linearly over the first `overlap_px` pixels from each edge inside the image. Near an edge a
    network sees the least context, so the neighbour's weight is larger there.

    Args:
        parts: The tiles of a grid that covers the image, each with its map float32[C, tile height, tile width].
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        overlap_px: Width of the ramps in pixels. If it exceeds the tiles' overlap, weights never reach 1, which is
            harmless.
    """
    total: NDArray[np.float32] | None = None
    tiles = []
    for tile, part in parts:
        assert part.shape[1:] == (tile.height, tile.width), (part.shape, tile)
        if total is None:
            total = np.zeros((part.shape[0], height, width), dtype=np.float32)
        total[(slice(None), *tile.window)] += part * tile_weight(tile, height, width, overlap_px=overlap_px)
        tiles.append(tile)
    assert total is not None, "no parts"
    total /= np.outer(*summed_weights(tiles, height, width, overlap_px=overlap_px))
    return total


def tile_weight(tile: Tile, height: int, width: int, *, overlap_px: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of a tile, float32[tile height, tile width] in (0, 1]; see `stitch`.

    Args:
        tile: The tile.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        overlap_px: Overlap of neighbouring tiles, in pixels.
    """
    return np.outer(
        _ramp(tile.y, tile.height, height, overlap_px), _ramp(tile.x, tile.width, width, overlap_px)
    )


def summed_weights(
    tiles: Sequence[Tile], height: int, width: int, *, overlap_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sum of all tiles' weights at each pixel, as two factors: float32[H] by row, float32[W] by column.

    Args:
        tiles: A grid that covers the image, made by `tile_grid`.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        overlap_px: Overlap of neighbouring tiles, in pixels; see `stitch`.
    """
    rows, columns = np.zeros(height, np.float32), np.zeros(width, np.float32)
    row_spans = {(tile.y, tile.height) for tile in tiles}
    column_spans = {(tile.x, tile.width) for tile in tiles}
    assert len(tiles) == len(row_spans) * len(column_spans), "the parts are no grid"
    for sums, spans in ((rows, row_spans), (columns, column_spans)):
        for start, length in sorted(spans):
            sums[start : start + length] += _ramp(start, length, len(sums), overlap_px)
        assert sums.min() > 0, "the parts do not cover the image"
    return rows, columns


def apply_tiled(
    fn: "Callable[[Pixels], NDArray[np.float32]]",
    image: Pixels,
    *,
    tile_px: int,
    overlap_px: int,
) -> NDArray[np.float32]:
    """Return the map that a function computes of an image, tile by tile: float32[C, H, W].

    Args:
        fn: Function from a tile uint8[h, w, 3] to its map float32[C, h, w].
        image: The image, uint8[H, W, 3].
        tile_px: Side of a tile, in pixels.
        overlap_px: Least overlap of neighbouring tiles in pixels, below `tile_px`.
    """
    height, width = image.shape[:2]
    tiles = tile_grid(height, width, tile_px=tile_px, overlap_px=overlap_px)
    if len(tiles) == 1:
        return fn(image)
    return stitch(((tile, fn(image[tile.window])) for tile in tiles), height, width, overlap_px=overlap_px)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    room = size - tile
    step = max(tile - overlap, 1)  # a short axis has one tile, whatever the overlap
    count = -(-room // step)
    return [0] if room == 0 else [round(n * room / count) for n in range(count + 1)]


def _ramp(start: int, tile: int, size: int, overlap: int) -> NDArray[np.float32]:
    """Return a tile's weights along one axis, float32[tile], in (0, 1]."""
    weight = np.ones(tile, dtype=np.float32)
    from_edge = (np.arange(tile, dtype=np.float32) + 1) / np.float32(overlap + 1)
    if start > 0:
        weight = np.minimum(weight, from_edge)
    if start + tile < size:
        weight = np.minimum(weight, from_edge[::-1])
    return weight
