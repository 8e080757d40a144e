"""A data set as the user says that it is to be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from searcher.cli import options
from searcher.data_pipeline import DataError, Sample, inspect_dataset, open_dataset
from searcher.data_pipeline.datasets.view import LABELS_ARE, DataView, objects_of, viewed

MASK = np.zeros((6, 9), np.int32)
MASK[1:3, 1:3] = MASK[3:5, 3:5] = 255  # one piece, by a corner
MASK[1:5, 7] = 255
TWO = np.where(MASK > 0, 1, 0)
TWO[1:5, 7] = 2


def test_the_command_line_has_the_same_words() -> None:
    assert options.LABELS_ARE == LABELS_ARE


@pytest.mark.parametrize(
    ("labels", "labels_are", "expected"),
    [
        (MASK, "binary", TWO),
        (MASK // 255, "binary", TWO),
        (255 - MASK, "binary-inverted", TWO),
        (np.where(MASK > 0, 250, 7), "binary", TWO),
        (MASK * 0, "binary", MASK * 0),
        (MASK * 0, "binary-inverted", MASK * 0),
        (MASK, "instances", MASK),
        (MASK, "", MASK),
    ],
)
def test_pieces_of_a_mask_are_objects(labels: np.ndarray, labels_are: str, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(objects_of(labels, labels_are), expected)


def test_pieces_of_each_class_are_objects() -> None:
    classes = np.array([[1, 1, 2, 0, 1], [0, 0, 2, 0, 1]])
    np.testing.assert_array_equal(objects_of(classes, "classes"), [[1, 1, 2, 0, 3], [0, 0, 2, 0, 3]])


def test_a_watershed_cuts_where_two_discs_touch() -> None:
    y, x = np.mgrid[:40, :70]
    discs = ((y - 20) ** 2 + (x - 20) ** 2 < 225) | ((y - 20) ** 2 + (x - 46) ** 2 < 225)
    assert objects_of(discs.astype(np.int32), "binary").max() == 1
    cut = objects_of(discs.astype(np.int32), "binary-watershed")
    assert cut.max() == 2
    assert abs((cut == 1).sum() - (cut == 2).sum()) < 30
    assert ((cut > 0) == discs).all()
    one = objects_of(((y - 20) ** 2 + (x - 20) ** 2 < 225).astype(np.int32), "binary-watershed")
    assert one.max() == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for name in ("P1_a", "P1_b", "P2_a"):
        Image.fromarray(np.full((6, 9, 3), 90, np.uint8)).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(MASK.astype(np.uint8)).convert("1").save(tmp_path / "labels" / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("labels_are", ["", "binary"])
def test_masks_of_1_bit_are_pieces_whatever_is_said(folder: Path, labels_are: str) -> None:
    source = viewed(open_dataset(folder), DataView(labels_are=labels_are))
    np.testing.assert_array_equal(source.read(0)[1], TWO)
    assert inspect_dataset(source).problems == ()


def test_patients_of_names(folder: Path) -> None:
    plain = open_dataset(folder)
    source = viewed(plain, DataView(patient_from=r"(P\d+)_"))
    assert [sample.group for sample in source.samples] == ["P1", "P1", "P2"]
    assert inspect_dataset(source).num_groups == 2
    assert len({source.fingerprint(), plain.fingerprint()}) == 2
    with pytest.raises(
        DataError, match=r"every image's name must have a patient by .*, got none in P2_a; correct"
    ):
        viewed(plain, DataView(patient_from="(P1)_"))


def test_a_plain_view_is_the_data_set(folder: Path) -> None:
    source = open_dataset(folder)
    assert viewed(source, DataView()) is source
    assert viewed(source, DataView(labels_are="instances")) is source


def test_resampling_gives_one_pixel_size(array_source: Callable) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 200
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 4:] = 9
    source = array_source([(image, labels)] * 3)
    source.samples = [Sample(f"item_{i}", "train", "g", "", size) for i, size in enumerate((0.25, 0.5, 1.0))]
    seen = viewed(source, DataView(resample_um=0.5))
    assert [sample.pixel_size_um for sample in seen.samples] == [0.5, 0.5, 0.5]
    small, same, large = (seen.read(i) for i in range(3))
    assert small[0].shape == (4, 4, 3)
    np.testing.assert_array_equal(small[1], labels[::2, ::2])
    np.testing.assert_array_equal(same[0], image)
    np.testing.assert_array_equal(large[1], labels.repeat(2, 0).repeat(2, 1))
    source.samples[0] = Sample("item_0", "train", "g", "")
    with pytest.raises(DataError, match="needs the pixel size of every image, got none for item_0"):
        viewed(source, DataView(resample_um=0.5))


@pytest.mark.parametrize("text", ["(", "P1", "(P)(1)", "(?P<a>x)(y)", "*"])
def test_an_expression_without_one_group_is_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"must be a regular expression|must have one group"):
        options._pattern(text)


def test_a_patient_whose_name_is_written_in_two_forms_is_one(folder: Path) -> None:
    for part in ("images", "labels"):
        for path in sorted((folder / part).iterdir()):
            path.rename(path.with_name(path.name.replace("P1_a", "M\u00fc_a").replace("P1_b", "Mu\u0308_b")))
    for pattern in ("^(M\u00fc|P2)_", "^(Mu\u0308|P2)_"):
        source = viewed(open_dataset(folder), DataView(patient_from=pattern))
        assert sorted(sample.group for sample in source.samples) == ["M\u00fc", "M\u00fc", "P2"]
