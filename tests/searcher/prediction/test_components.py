"""Components found block by block are those of SciPy for the whole mask."""

import numpy as np
import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from searcher.data_pipeline.scratch import ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.components import label_components


@pytest.mark.parametrize("connectivity", [4, 8])
@examples(60)
@given(
    height=st.integers(1, 25), width=st.integers(1, 25), seed=st.integers(0, 10**6), block_px=st.integers(1, 12),
    density=st.sampled_from([0.0, 0.2, 0.35, 0.5, 0.7, 1.0]), min_area_px=st.sampled_from([0, 4]),
)  # fmt: skip
def test_whatever_the_blocks(
    tmp_path_factory, connectivity, height, width, seed, block_px, density, min_area_px
):
    mask = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    with ScratchArray((height, width), np.int32, tmp_path_factory.mktemp("scratch")) as scratch:
        found = label_components(
            lambda block: mask[block.window].copy(),
            scratch,
            connectivity=connectivity,
            block_px=block_px,
            min_area_px=min_area_px,
        )
        labels = found.number_of[scratch.read(Tile(0, 0, height, width))]
    structure = np.ones((3, 3)) if connectivity == 8 else None
    whole, num = ndimage.label(mask, structure)  # numbered by first pixel, row by row
    areas = np.bincount(whole.ravel(), minlength=num + 1)
    kept = [label for label in range(1, num + 1) if areas[label] >= min_area_px]
    expected = np.zeros_like(whole)
    for number, label in enumerate(kept, start=1):
        expected[whole == label] = number
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(found.areas[1:], areas[kept])
    for number, (rows, columns) in enumerate(ndimage.find_objects(expected), start=1):
        box = (rows.start, columns.start, rows.stop, columns.stop)
        assert tuple(found.boxes[number]) == box
        assert found.touches_edge[number] == (0 in box[:2] or rows.stop == height or columns.stop == width)
        same_block = rows.start // block_px == (rows.stop - 1) // block_px
        same_block &= columns.start // block_px == (columns.stop - 1) // block_px
        assert same_block or not found.is_in_one_block[number]
    assert not found.touches_edge[0]
