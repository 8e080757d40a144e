"""Connected components of masks larger than memory: block by block, and joined over the blocks' borders."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from searcher.data_pipeline.scratch import ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.models.postprocess import first_pixels

__all__ = ["Components", "blocks_of", "label_components"]

Mask = NDArray[np.uint8]


class Components(NamedTuple):
    """The connected components of a mask, numbered 1 to n by their first pixels, row by row; index 0 is background.

    A pixel with value v in the scratch array belongs to component `number_of[v]`.
    """

    number_of: NDArray[np.int32]
    """int32[values], component of a value in the scratch array, 0 for none."""
    areas: NDArray[np.int64]
    """int64[n + 1], pixels."""
    boxes: NDArray[np.int64]
    """int64[n + 1, 4], first row, first column, row and column behind the last."""
    touches_edge: NDArray[np.bool_]
    """bool[n + 1], whether it reaches the image's border."""
    is_in_one_block: NDArray[np.bool_]
    """bool[n + 1], whether no block's border cuts it or touches it."""


def blocks_of(height: int, width: int, block_px: int) -> Iterator[Tile]:
    """Yield the blocks into which an image is divided, row by row; those at the lower and right border may be smaller.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        block_px: Side of a block, in pixels.
    """
    for y in range(0, height, block_px):
        for x in range(0, width, block_px):
            yield Tile(y, x, min(block_px, height - y), min(block_px, width - x))


def label_components(
    read_mask: Callable[[Tile], Mask],
    scratch: ScratchArray[np.int32],
    *,
    connectivity: int,
    block_px: int,
    min_area_px: int = 0,
) -> Components:
    """Return the connected components of a mask, and write their places into `scratch`.

    Args:
        read_mask: Function that returns the mask of a block, uint8[h, w], 0 or 1. Called once for each block, before
            that is written.
        scratch: int32[H, W], overwritten.
        connectivity: 4 or 8.
        block_px: Side of a block, in pixels.
        min_area_px: Leave out components with fewer pixels.
    """
    height, width = scratch.shape[:2]
    above = np.zeros(width + 2, np.int32)  # the last row of the blocks above, with a column on either side
    parts: list[NDArray[np.int64]] = []  # box, first pixel and area of each piece of a component
    joints: list[NDArray[np.int32]] = []  # pairs of pieces that touch
    num_pieces = 0
    left = np.zeros(0, np.int32)
    below = above.copy()
    for block in blocks_of(height, width, block_px):
        if block.x == 0:
            above, below = below, np.zeros(width + 2, np.int32)
            left = np.zeros(block.height, np.int32)
        labels, pieces = _pieces(read_mask(block), block, (height, width), connectivity, min_area_px)
        labels[labels > 0] += np.int32(num_pieces)
        num_pieces += len(pieces)
        parts.append(pieces)
        joints.append(
            _joints(labels[0], above[block.x : block.x + block.width + 2], is_diagonal=connectivity == 8)
        )
        joints.append(_joints(labels[:, 0], np.pad(left, 1), is_diagonal=connectivity == 8))
        below[block.x + 1 : block.x + block.width + 1] = labels[-1]
        left = labels[:, -1].copy()
        scratch.write(block, labels)
    return _joined(np.concatenate(parts), np.concatenate(joints), (height, width), min_area_px)


_TOP, _LEFT, _BOTTOM, _RIGHT, _FIRST, _AREA, _IN_BLOCK = range(7)


def _pieces(
    mask: Mask, block: Tile, size: tuple[int, int], connectivity: int, min_area_px: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels 1 to n of a block's components, and int64[n, 7] about them in the image's coordinates.

    Those that are whole in the block and too small are left out here, so that specks cost no memory.
    """
    num, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask, connectivity=connectivity, ltype=cv2.CV_32S
    )
    left, top, width, height, area = stats.astype(np.int64).T
    is_inside = (top > 0) | (block.y == 0)
    is_inside &= (left > 0) | (block.x == 0)
    is_inside &= (top + height < block.height) | (block.y + block.height == size[0])
    is_inside &= (left + width < block.width) | (block.x + block.width == size[1])
    keep = ~is_inside | (area >= min_area_px)
    keep[0] = False
    first = first_pixels(labels, num)
    rows, columns = np.divmod(first, block.width)
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(first[kept])]  # OpenCV's own order depends on its number of threads
    lookup = np.zeros(num, np.int32)
    lookup[kept] = np.arange(1, len(kept) + 1)
    table = np.stack(
        [
            top + block.y,
            left + block.x,
            top + height + block.y,
            left + width + block.x,
            (rows + block.y) * size[1] + columns + block.x,
            area,
            is_inside,
        ],
        axis=1,
    )
    return lookup[labels], table[kept]


def _joints(edge: NDArray[np.int32], beyond: NDArray[np.int32], *, is_diagonal: bool) -> NDArray[np.int32]:
    """Return pairs int32[n, 2] of labels that touch: edge[i] with beyond[i + 1] and, diagonally, its neighbours."""
    num = len(edge)
    pairs = []
    for shift in (0, 1, 2) if is_diagonal else (1,):
        other = beyond[shift : shift + num]
        touch = (edge > 0) & (other > 0)
        pairs.append(np.stack([edge[touch], other[touch]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _joined(
    pieces: NDArray[np.int64], joints: NDArray[np.int32], size: tuple[int, int], min_area_px: int
) -> Components:
    num_pieces = len(pieces)
    graph = coo_array(
        (np.ones(len(joints), np.bool_), (joints[:, 0] - 1, joints[:, 1] - 1)), (num_pieces, num_pieces)
    )
    num, group = connected_components(graph, directed=False)
    first = np.full(num, np.iinfo(np.int64).max)
    np.minimum.at(first, group, pieces[:, _FIRST])
    areas = np.zeros(num, np.int64)
    np.add.at(areas, group, pieces[:, _AREA])
    boxes = np.empty((num, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.int64).max, 0
    np.minimum.at(boxes[:, :2], group, pieces[:, :2])
    np.maximum.at(boxes[:, 2:], group, pieces[:, 2:4])
    is_in_one_block = np.zeros(num, np.bool_)
    is_in_one_block[group] = pieces[:, _IN_BLOCK]  # one that is whole in a block is one piece
    kept = np.flatnonzero(areas >= min_area_px)
    kept = kept[np.argsort(first[kept])]
    number_of_group = np.zeros(num, np.int32)
    number_of_group[kept] = np.arange(1, len(kept) + 1)
    boxes = np.concatenate([np.zeros((1, 4), np.int64), boxes[kept]])
    touches = (boxes[:, :2] == 0).any(axis=1) | (boxes[:, 2:] == size).any(axis=1)
    touches[0] = False
    return Components(
        number_of=np.concatenate([np.zeros(1, np.int32), number_of_group[group]]),
        areas=np.concatenate([[0], areas[kept]]),
        boxes=boxes,
        touches_edge=touches,
        is_in_one_block=np.concatenate([[False], is_in_one_block[kept]]),
    )
