"""`samples.csv` and `Grade.csv` beside `images/` and `labels/`, as people and spreadsheets write them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from searcher.data_pipeline import DataError, Sample, inspect_dataset, open_dataset
from searcher.data_pipeline.splits import split_by_group

HEAD = "id,patient,split,stratum,pixel_size_um\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = np.zeros((8, 8), np.uint8)
    labels[2:5, 2:5] = 1
    for part, array in (("images", np.ones((8, 8, 3), np.uint8)), ("labels", labels)):
        (tmp_path / part).mkdir()
        for name in ("a", "b", "ü", "testA_1"):
            Image.fromarray(array).save(tmp_path / part / f"{name}.png")
    return tmp_path


def samples(folder: Path, table: str | bytes) -> dict[str, Sample]:
    content = table if isinstance(table, bytes) else table.encode()
    (folder / "samples.csv").write_bytes(content)
    return {sample.id: sample for sample in open_dataset(folder).samples}


ROWS = ["a,P1,train,low,0.5", "b,P1,train,high,0.25", "ü,P2,holdout,,", "testA_1,P3,,,0.5"]
EXPECTED = {
    "a": Sample("a", "train", "P1", "low", 0.5),
    "b": Sample("b", "train", "P1", "high", 0.25),
    "ü": Sample("ü", "holdout", "P2", "", None),
    "testA_1": Sample("testA_1", "testA", "P3", "", 0.5),
}


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(HEAD + "\n".join(ROWS), id="plain"),
        pytest.param(
            "\ufeff" + HEAD.upper() + "\n".join(ROWS) + "\n\n", id="byte order mark, capitals, empty lines"
        ),
        pytest.param((HEAD + "\n".join(ROWS)).replace("\n", "\r\n"), id="CRLF"),
        pytest.param((HEAD + "\n".join(ROWS)).replace("\n", "\r"), id="CR"),
        pytest.param(
            (HEAD + "\n".join(ROWS)).replace(",", ";").replace("0.", "0,"), id="semicolons, decimal commas"
        ),
        pytest.param((HEAD + "\n".join(ROWS)).replace(",", "\t"), id="tabs"),
        pytest.param((HEAD + "\n".join(ROWS)).replace(",", " , "), id="blanks"),
        pytest.param(
            (HEAD + "\n".join(ROWS)).replace("a,P1", "a.png,P1", 1).replace("ü", "u\u0308"), id="suffix, NFD"
        ),
        pytest.param(HEAD + "\n".join(f"{row},,," for row in ROWS), id="separators at the end"),
    ],
)
def test_a_table_is_read_however_it_was_saved(folder: Path, table: str) -> None:
    assert samples(folder, table) == EXPECTED


def test_any_subset_of_columns(folder: Path) -> None:
    found = samples(folder, "id,patient\na,P\nb,P\nü,Q\ntestA_1,Q\n")
    assert {name: sample.group for name, sample in found.items()} == {
        "a": "P",
        "b": "P",
        "ü": "Q",
        "testA_1": "Q",
    }
    assert found["testA_1"].split == "testA"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,patient\na,P\nb,P\nü,P\n", "every image needs a row, got none for testA_1; add it"),
        ("id,patient\na,P\nb,P\nü,P\ntestA_1,P\nc,P\n", "every id must be an image's name, got c; correct"),
        (
            "id,patient\na,P\na,Q\nb,P\nü,P\ntestA_1,P\n",
            "line 3: an image must have one row, got a second one for a",
        ),
        (
            "id,patient\na,\nb,P\nü,P\ntestA_1,P\n",
            "line 2: every image needs a patient where the column is there",
        ),
        (
            "id,pixel_size_um\na,x\nb,1\nü,1\ntestA_1,1\n",
            "line 2: pixel_size_um must be a number of micrometres",
        ),
        ("id,pixel_size_um\na,inf\nb,1\nü,1\ntestA_1,1\n", "got inf"),
        ("id,pixel_size_um\na,-1\nb,1\nü,1\ntestA_1,1\n", "got -1"),
        ("id,patient\na\nb,P\nü,P\ntestA_1,P\n", "line 2: a row must have 2 cells, got 1"),
        ("name,patient\na,P\n", "the head must have id and any of"),
        ("id\na\n", "the head must have id and any of"),
        ("id,patient,patient\na,P,Q\n", "each once"),
        ("", "got nothing"),
        (b"id,patient\na,\xff\n", "must be CSV in UTF-8, got the byte 0xff in line 2; save it as UTF-8"),
        ("id,patient\na,P\n".encode("utf-16"), "must be CSV in UTF-8, got UTF-16; save it as UTF-8"),
        ('id,patient\n"a,P\n', "must be readable as CSV in UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_table(
    folder: Path, table: str | bytes, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        samples(folder, table)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{folder / 'samples.csv'}: ")
    assert message in problem


def test_grades_of_glas_are_read_here_too(folder: Path) -> None:
    without = open_dataset(folder).fingerprint()
    (folder / "Grade.csv").write_text(
        "name, patient ID, grade (GlaS)\na, 1, benign\nb, 1, benign\nü, 2, malignant\ntestA_1, 3, benign\n"
    )
    source = open_dataset(folder)
    assert [(s.id, s.group, s.stratum) for s in source.samples] == [
        ("a", "1", "benign"),
        ("b", "1", "benign"),
        ("testA_1", "3", "benign"),
        ("ü", "2", "malignant"),
    ]
    assert inspect_dataset(source).num_groups == 3
    assert source.fingerprint() != without
    (folder / "Grade.csv").write_text("name, patient ID\na, 1\n")
    with pytest.raises(DataError, match=r"every image needs a row, got none for b, testA_1, ü \(3 of 4"):
        open_dataset(folder)


def test_patients_and_pixel_sizes_are_part_of_the_fingerprint(folder: Path) -> None:
    prints = {open_dataset(folder).fingerprint()}
    for table in (
        "\n".join(ROWS),
        "\n".join(ROWS).replace("P1", "P9"),
        "\n".join(ROWS).replace("0.25", "0.3"),
    ):
        (folder / "samples.csv").write_text(HEAD + table)
        prints.add(open_dataset(folder).fingerprint())
    assert len(prints) == 4


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_training_and_validation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [Sample(str(i), "train", f"P{rng.integers(6)}", "") for i in range(40)]
    for folds, fold in ((0, 0), (3, 0), (3, 1), (3, 2)):
        split = split_by_group(images, range(40), folds=folds, fold=fold, seed=seed)
        assert not {images[i].group for i in split.train} & {images[i].group for i in split.val}


def test_a_patient_and_a_split_written_in_two_forms_are_one(folder: Path) -> None:
    found = samples(
        folder, "id,patient,split\na,M\u00fc,pr\u00fcf\nb,Mu\u0308,pru\u0308f\nü,x,train\ntestA_1,x,train\n"
    )
    assert found["a"].group == found["b"].group == "M\u00fc"
    assert found["a"].split == found["b"].split == "pr\u00fcf"


def test_a_table_of_more_than_any_lab_has_is_refused_unread(folder):
    with (folder / "samples.csv").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="of at most 268435456 bytes, got 1099511627776"):
        open_dataset(folder)


def test_a_table_that_is_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "samples.csv")
    with pytest.raises(DataError, match="must be a file with CSV, got a pipe"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("content", "licence"),
    [
        ("licence = 'ours'\n", "ours"),
        ("\ufefflicence = 'ours'\r\n", "ours"),
        ("# a note\rlicence = 'ours'\r", "ours"),
    ],
)
def test_a_description_is_read_as_any_text_that_people_touched(folder, content, licence):
    (folder / "dataset.toml").write_bytes(content.encode())
    assert open_dataset(folder).licence == licence


def test_a_description_is_never_read_in_part(folder):
    """The first part of one that is too long would be TOML too, without the licence."""
    (folder / "dataset.toml").write_text("# notes\n" * 2**18 + "licence = 'ours'\n")
    with pytest.raises(DataError, match="must be a file with TOML of at most 1048576 bytes, got 2097169"):
        open_dataset(folder)
