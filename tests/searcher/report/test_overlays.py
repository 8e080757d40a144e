"""Outlines: where they are, what they leave alone, and that touching objects keep one each."""

import numpy as np
import pytest

from searcher.report.overlays import PREDICTION_COLOUR, TRUTH_COLOUR, line_width_px, outlines, overlay

GREY = np.full((60, 80, 3), 128, np.uint8)


def square(top: int = 20, left: int = 20, side: int = 24, label: int = 1) -> np.ndarray:
    labels = np.zeros(GREY.shape[:2], np.int32)
    labels[top : top + side, left : left + side] = label
    return labels


def test_a_line_lies_inside_the_border_with_a_dark_edge_on_both_sides():
    picture = outlines(square(), (9, 200, 30), width_px=2)
    assert picture.dtype == np.uint8
    row = picture[32]
    assert [tuple(pixel) for pixel in row[20:22]] == [(9, 200, 30, 255)] * 2, "two pixels from the border in"
    assert all(0 < row[x][3] < 255 and row[x][:3].max() < 30 for x in (19, 22)), "the edges"
    assert not row[[0, 18, 23, 30, 40]][:, 3].any(), "nothing outside and nothing within"
    assert (picture[..., 3] == 255).sum() == 24**2 - 20**2


def test_touching_objects_have_an_outline_each():
    labels = square() + square(left=44, label=2)
    line = outlines(labels, (1, 2, 3), width_px=1)[32, :, 3] == 255
    assert np.flatnonzero(line).tolist() == [20, 43, 44, 67]


def test_an_object_that_the_image_cuts_has_no_line_along_the_images_edge():
    line = outlines(square(left=0), (1, 2, 3), width_px=1)[32, :, 3] == 255
    assert np.flatnonzero(line).tolist() == [23]


@pytest.mark.parametrize("value", [0, 5])
def test_nothing_and_everything_have_no_outline(value):
    labels = np.full(GREY.shape[:2], value, np.int32)
    assert not outlines(labels, (1, 2, 3), width_px=3).any()
    np.testing.assert_array_equal(overlay(GREY, labels, labels), GREY)


def test_truth_and_prediction_have_their_colours_and_both_show_where_they_agree():
    drawn = overlay(GREY, square(), square(), width_px=2)
    row = [tuple(map(int, pixel)) for pixel in drawn[32]]
    assert row[20:22] == [PREDICTION_COLOUR] * 2
    assert row[23] == TRUTH_COLOUR, "the wider line below"
    assert row[32] == row[5] == (128, 128, 128)
    alone = overlay(GREY, None, square(), width_px=2)
    assert TRUTH_COLOUR not in {tuple(map(int, pixel)) for pixel in alone.reshape(-1, 3)}
    assert GREY.min() == GREY.max() == 128, "the image itself is untouched"


def test_lines_grow_with_the_image():
    assert [line_width_px(shape) for shape in ((100, 100), (522, 775), (5000, 4000))] == [2, 3, 19]


def test_other_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"truth must have the image's height and width, got truth \(60, 79\)"
    ):
        overlay(GREY, square()[:, 1:], square())
