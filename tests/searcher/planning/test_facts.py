"""What a plan knows of a data set, against counts by hand."""

import numpy as np
import pytest

from searcher.data_pipeline import DataError, prepare_store
from searcher.data_pipeline.datasets import open_dataset
from searcher.planning.facts import data_facts, near_share


def squares(folder, maps):
    from PIL import Image

    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number, labels in enumerate(maps):
        image = np.where(labels[..., None] > 0, (150, 60, 150), (230, 215, 230)).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / f"{number}.png")
    return folder


def facts_of(folder):
    return data_facts(prepare_store(open_dataset(folder), folder / "cache"), str(folder))


def test_sizes_and_numbers_are_counted_in_pixels_of_the_image(tmp_path):
    first, second = np.zeros((60, 100), int), np.zeros((80, 90), int)
    first[10:20, 10:20], first[30:50, 30:60], second[5:15, 5:30] = 1, 2, 7  # 10x10, 20x30, 10x25
    facts = facts_of(squares(tmp_path, [first, second]))
    assert (facts.num_images, facts.num_patients, facts.patients_are_known) == (2, 2, False)
    assert (facts.num_objects, facts.objects_per_image) == (3, 1)
    assert (facts.short_px, facts.largest_px) == (60, 7200)
    assert (facts.small_area_px, facts.narrow_px) == (100, 10)
    assert facts.side_px == pytest.approx(250**0.5)
    assert facts.large_side_px == pytest.approx(250**0.5 + 0.96 * (600**0.5 - 250**0.5))
    assert (facts.gap_px, facts.near) == (1, 0.0)
    assert facts.is_stained


@pytest.mark.parametrize(("gap", "expected"), [(1, 0.5), (3, 0.5), (4, 1.0)])
def test_objects_are_near_by_the_pixels_between_them(gap, expected):
    labels = np.zeros((12, 40), int)
    labels[2:6, 2:6], labels[2:6, 6:10] = 3, 1  # touch
    labels[2:6, 20:24], labels[6:9, 27:30] = 2, 9  # columns 23 and 27 are 4 apart, rows 5 and 6 are 1
    assert near_share(labels, gap) == expected
    assert near_share(np.zeros((4, 4), int), gap) == 0.0


def test_a_data_set_without_any_object_is_refused(tmp_path):
    with pytest.raises(DataError, match="training images must hold objects, got no object in any of 2"):
        facts_of(squares(tmp_path, [np.zeros((40, 40), int)] * 2))
