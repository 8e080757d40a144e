"""Metrics where a part of the image is not annotated, by hand."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from searcher import metrics
from searcher.data_pipeline.exceptions import DataError
from searcher.evaluation.annotated import where_annotated
from searcher.evaluation.glas import poster
from searcher.evaluation.measured_folders import measure_folders
from searcher.evaluation.official_metrics import METRICS, compare, pooled


def image(*rows: str) -> NDArray[np.int32]:
    """Return a label map; `.` is not annotated."""
    return np.array([[-1 if each == "." else int(each) for each in row] for row in rows], np.int32)


TRUTH = image("110000..", "110000..", "0000....", "0330....")
FOUND = image("11000222", "11000222", "00444000", "0550005.")[:, :8]
FOUND[FOUND < 0] = 0
"""1 is found; 2 has 4 of 6 px where nothing is annotated; 4 one of three; 5 two of three on an object, one beyond."""


def test_objects_mostly_where_nothing_is_annotated_are_left_out() -> None:
    truth, found = where_annotated(TRUTH, FOUND)
    assert np.array_equal(truth, np.maximum(TRUTH, 0))
    assert np.array_equal(found, image("11000000", "11000000", "00440000", "05500000"))


def test_half_is_not_mostly_and_the_rest_is_cut_off() -> None:
    truth = image("00..", "00..")
    assert where_annotated(truth, image("0110", "0000"))[1].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert not where_annotated(truth, image("0111", "0000"))[1].any()


def test_the_metrics_are_those_of_the_annotated_part() -> None:
    found = pooled([compare(TRUTH, FOUND)])
    assert found["f1"] == 2 * 2 / (2 * 2 + 1), "1 and 5 are won, 4 is one too many"
    assert found["pixel_dice"] == 2 * 6 / (6 + 8)
    assert metrics.official(TRUTH, FOUND) == {name: found[name] for name in METRICS}
    assert metrics.instances(TRUTH, FOUND)["ap50"] == 2 / 3
    assert poster.compare_as_poster(TRUTH, FOUND, size_px=None).f1 == 2 * 6 / (6 + 8)
    same = pooled([compare(TRUTH, np.maximum(TRUTH, 0))])
    assert (same["f1"], same["object_hausdorff"]) == (1.0, 0.0)


def test_a_prediction_with_such_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="labels must be 0"):
        compare(TRUTH, TRUTH)


def test_folders_say_it_by_minus_one_or_by_a_number(tmp_path: Path) -> None:
    for name, stored in (
        ("minus", TRUTH),
        ("number", np.where(TRUTH < 0, 255, TRUTH).astype(np.uint8)),
        ("found", FOUND),
    ):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", stored)
    by_minus = measure_folders(tmp_path / "minus", tmp_path / "found", relabel=True, with_poster=True)
    by_number = measure_folders(
        tmp_path / "number", tmp_path / "found", relabel=True, with_poster=True, not_annotated=255
    )
    assert by_minus.summary.to_dict() == by_number.summary.to_dict()
    assert by_minus.as_labelled is not None
    assert by_minus.as_labelled.pooled["f1"] == 4 / 5
    with pytest.raises(DataError, match="got -1, which only a truth has"):
        measure_folders(tmp_path / "found", tmp_path / "minus")
    tifffile.imwrite(tmp_path / "minus" / "a.tif", np.full_like(TRUTH, -1))
    with pytest.raises(DataError, match="a part of the image must be annotated"):
        measure_folders(tmp_path / "minus", tmp_path / "found")
