"""The GlaS release folder: what is read from it, and one line for everything that is wrong with it."""

import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from searcher.data_pipeline import DataError, Sample, open_dataset

# The release's own form: blanks after commas, CRLF, a comma in no place that would help.
GRADES = (
    "name,patient ID,grade (GlaS), grade (Sirinukunwattana et al. 2015)\r\n"
    "testA_1,4, benign, adenomatous\r\n"
    "train_1,10, benign, healthy\r\n"
    "train_2 , 11 , malignant , poorly differentiated\r\n"
    "train_10,10, malignant, moderately differentiated\r\n"
)
NAMES = ("train_1", "train_2", "train_10", "testA_1")


@pytest.fixture
def glas(tmp_path: Path, write_glas: Callable[..., None]) -> Path:
    folder = tmp_path / "glas"
    write_glas(folder, NAMES)
    (folder / "Grade.csv").write_text(GRADES, newline="")
    return folder


def problems_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        open_dataset(folder)
    return caught.value.problems


def test_samples_come_in_the_releases_order_with_patient_and_grade(glas: Path) -> None:
    assert list(open_dataset(glas).samples) == [
        Sample("train_1", "train", "10", "benign"),
        Sample("train_2", "train", "11", "malignant"),
        Sample("train_10", "train", "10", "malignant"),
        Sample("testA_1", "testA", "4", "benign"),
    ]


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif", ".BMP"])
def test_reads_every_format_the_release_comes_in(
    tmp_path: Path, suffix: str, write_glas: Callable[..., None]
) -> None:
    write_glas(tmp_path / "glas", ["train_1"], suffix=suffix)
    image, labels = open_dataset(tmp_path / "glas").read(0)
    assert image.dtype == np.uint8
    assert image[5, 11].tolist() == [11, 5, 7]  # red is x, green is y: channels are RGB
    assert labels.dtype == np.int32
    assert labels[4, 8:10].tolist() == [1, 2]  # touching glands keep their own labels


def test_without_grades_every_image_is_its_own_group(glas: Path) -> None:
    (glas / "Grade.csv").unlink()
    samples = open_dataset(glas).samples
    assert [sample.group for sample in samples] == list(NAMES)
    assert {sample.stratum for sample in samples} == {""}


def test_a_byte_order_mark_and_other_capitals_in_the_grades_do_no_harm(glas: Path) -> None:
    (glas / "Grade.csv").write_text("\ufeff" + GRADES.replace("patient ID", "Patient Id"), newline="")
    assert open_dataset(glas).samples[1].group == "11"


def test_an_image_without_a_row_is_a_problem_since_its_patient_may_be_in_training(glas: Path) -> None:
    (glas / "Grade.csv").write_text(GRADES.replace("train_2 ", "train_3 "), newline="")
    (problem,) = problems_of(glas)
    assert problem.startswith(f"{glas / 'Grade.csv'}: ")
    assert "none for train_2" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got nothing"),
        ("name,grade\ntrain_1,benign\n", "got name, grade"),
        (GRADES + "train_1,12, benign,\r\n", "('10', 'benign') and ('12', 'benign') for train_1"),
        (GRADES.replace("train_1,10", "train_1,"), "got none for train_1"),
    ],
)
def test_a_broken_grades_file_is_one_line(glas: Path, text: str, expected: str) -> None:
    (glas / "Grade.csv").write_text(text, newline="")
    (problem,) = problems_of(glas)
    assert "Grade.csv: " in problem
    assert expected in problem


def test_all_problems_of_a_folder_are_collected_one_line_each(glas: Path) -> None:
    (glas / "train_1_anno.bmp").unlink()
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(glas / "train_2_anno.bmp")
    (glas / "train_10.bmp").write_bytes(b"no image")
    (glas / "testA_1.bmp").unlink()
    found = {problem.partition(": ")[0]: problem for problem in problems_of(glas)}
    assert "got none" in found[str(glas / "train_1.bmp")]
    assert "must have its image's size 30x20, got 8x9" in found[str(glas / "train_2_anno.bmp")]
    assert "must decode" in found[str(glas / "train_10.bmp")]
    assert "needs its image" in found[str(glas / "testA_1_anno.bmp")]
    assert len(found) == 4


@pytest.mark.parametrize(
    ("annotation", "got"),
    [
        (np.arange(1800).reshape(20, 30, 3).astype(np.uint8), "got shape (20, 30, 3)"),
        (np.zeros((20, 30, 4), np.uint8), "got shape (20, 30, 4)"),  # transparent
        (np.full((20, 30), 0.5, np.float32), "must be of integers, got float32"),
    ],
)
def test_an_annotation_must_be_a_label_map(glas: Path, annotation: np.ndarray, got: str) -> None:
    (glas / "train_1_anno.bmp").unlink()
    Image.fromarray(annotation).save(glas / "train_1_anno.tif")
    with pytest.raises(DataError) as refused:
        open_dataset(glas).read(0)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{glas / 'train_1_anno.tif'}: a label map must ")
    assert got in problem


def test_opening_decodes_nothing_and_reading_names_the_damaged_file(glas: Path) -> None:
    path = glas / "train_2.bmp"
    path.write_bytes(path.read_bytes()[:-500])
    source = open_dataset(glas)
    with pytest.raises(DataError, match=r"train_2\.bmp: the file must decode as an image") as caught:
        source.read(1)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.int32, 70_000)])
def test_label_maps_of_8_to_32_bits_keep_their_values(glas: Path, dtype: type, top: int) -> None:
    labels = np.zeros((20, 30), dtype)
    labels[3, 4] = top
    (glas / "train_1_anno.bmp").unlink()
    Image.fromarray(labels).save(glas / "train_1_anno.tif")
    assert open_dataset(glas).read(0)[1][3, 4] == top


def test_unsigned_32_bits_as_opencv_writes_them(glas: Path) -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[3, 4] = 70_000
    (glas / "train_1_anno.bmp").unlink()
    assert cv2.imwrite(str(glas / "train_1_anno.tif"), labels)
    assert open_dataset(glas).read(0)[1][3, 4] == 70_000


def test_palette_annotations_are_read_as_indices_not_as_colours(glas: Path) -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[3, 4] = 2
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    (glas / "train_1_anno.bmp").unlink()
    picture.save(glas / "train_1_anno.png")
    assert np.array_equal(open_dataset(glas).read(0)[1], labels)


def test_more_than_65535_labels_and_negative_labels_are_refused(
    tmp_path: Path, write_glas: Callable[..., None]
) -> None:
    write_glas(tmp_path / "glas", ["train_1"], size=(300, 300))
    (tmp_path / "glas" / "train_1_anno.bmp").unlink()
    path = tmp_path / "glas" / "train_1_anno.tif"
    Image.fromarray(np.arange(90_000, dtype=np.int32).reshape(300, 300)).save(path)
    source = open_dataset(tmp_path / "glas")
    with pytest.raises(DataError, match="may have 65535 instances, got 89999"):
        source.read(0)
    Image.fromarray(np.full((300, 300), -2, np.int32)).save(path)
    with pytest.raises(DataError, match=r"must lie in 0\.\.2147483647, or be -1 where .*, got -2"):
        source.read(0)


def test_grey_images_become_rgb_and_16_bit_images_stand_alone(glas: Path) -> None:
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(glas / "train_1.bmp")
    assert open_dataset(glas).read(0)[0][0, 0].tolist() == [9, 9, 9]
    (glas / "train_1.bmp").unlink()
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(glas / "train_1.png")
    (problem,) = problems_of(glas)
    assert (
        "train_1.png: all images of a data set must have the same channels and depth, got 16 bit grey"
        in problem
    )


def test_two_files_for_one_image_are_a_problem(glas: Path) -> None:
    Image.open(glas / "train_1.bmp").save(glas / "train_1.png")
    (problem,) = problems_of(glas)
    assert "train_1 must be one file, got train_1.bmp, train_1.png" in problem


def test_several_pages_are_refused(glas: Path) -> None:
    (glas / "train_1_anno.bmp").unlink()
    page = Image.fromarray(np.ones((20, 30), np.uint8))
    page.save(glas / "train_1_anno.tif", save_all=True, append_images=[page, page])
    with pytest.raises(DataError, match=r"train_1_anno\.tif: a file must hold one image, got 3 pages"):
        open_dataset(glas).read(0)


def test_strangers_are_left_out_with_a_warning(glas: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.open(glas / "train_1.bmp").save(glas / "overview.png")
    (glas / "._train_1.bmp").write_bytes(b"what a Mac leaves behind")
    with caplog.at_level(logging.WARNING):
        assert len(open_dataset(glas).samples) == 4
    assert "left out 1 images" in caplog.text
    assert "overview.png" in caplog.text


def test_lenient_opening_keeps_the_good_and_lists_the_bad(glas: Path) -> None:
    (glas / "train_1_anno.bmp").unlink()
    source = open_dataset(glas, strict=False)
    assert [sample.id for sample in source.samples] == ["train_2", "train_10", "testA_1"]
    assert len(source.problems) == 1


def test_fingerprint_follows_content_and_patients_but_not_the_place(glas: Path, tmp_path: Path) -> None:
    first = open_dataset(glas).fingerprint()
    assert len(first) == 64
    glas = glas.rename(tmp_path / "elsewhere")
    assert open_dataset(glas).fingerprint() == first
    (glas / "Grade.csv").write_text(GRADES.replace("train_1,10", "train_1,12"), newline="")
    of_other_patient = open_dataset(glas).fingerprint()
    assert of_other_patient != first
    image = np.array(Image.open(glas / "train_1.bmp"))
    image[0, 0, 0] += 1
    Image.fromarray(image).save(glas / "train_1.bmp")
    assert open_dataset(glas).fingerprint() not in {first, of_other_patient}
