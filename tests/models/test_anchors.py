"""Anchors, by hand and against torchvision."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from searcher.models.anchors import Anchors

GRIDS = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
INPUT = (64, 96)


def test_sides_double_evenly_over_the_levels():
    anchors = Anchors(smallest_px=20.0, octaves=2.0, aspect=2.0)
    assert anchors.sides_px.tolist() == pytest.approx([20.0, 20 * 2**0.5, 40.0, 40 * 2**0.5, 80.0])


def test_wide_square_and_tall_boxes_of_one_area_around_a_cells_corner():
    boxes = Anchors(smallest_px=10.0, octaves=0.0, aspect=4.0)([(2, 1)] * 5, input_size=(8, 4), scale=1.0)
    assert boxes[:3].tolist() == [[-10, -2.5, 10, 2.5], [-5, -5, 5, 5], [-2.5, -10, 2.5, 10]]
    assert boxes[4].tolist() == [-5, -1, 5, 9]  # the square of the second row, 4 pixels below


def test_scaling_the_input_scales_the_anchors():
    anchors = Anchors(smallest_px=10.0, octaves=1.0, aspect=2.0)
    once, twice = (anchors([(1, 1)] * 5, input_size=(64, 64), scale=scale) for scale in (1.0, 2.0))
    torch.testing.assert_close(twice, 2 * once)


def test_they_are_torchvisions():
    """With sides and an aspect that leave nothing to round, which torchvision does and we do not."""
    ours = Anchors(smallest_px=32.0, octaves=4.0, aspect=4.0)(GRIDS, input_size=INPUT, scale=1.0)
    theirs = AnchorGenerator(
        sizes=tuple((32 * 2**level,) for level in range(5)), aspect_ratios=((0.25, 1.0, 4.0),) * 5
    )
    features = [torch.zeros(1, 1, *grid) for grid in GRIDS]
    [expected] = theirs(ImageList(torch.zeros(1, 3, *INPUT), [INPUT]), features)
    torch.testing.assert_close(ours, expected)
