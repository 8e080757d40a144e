"""`predictions.csv` keeps its rows, whatever a spreadsheet made of it."""

import csv

import pytest

from searcher.api.predictions_table import COLUMNS, PredictionsTable, read_table

LINES = [
    "image,height,width,pixel_size_um,objects,area_px,area_um2,seconds",
    "a.png,96,80,0.5,3,400,100.0,1.25",
    "M\u00fcller.png,96,80,,1,40,,2",
    "'=1+1.png,96,80,,1,40,,3",
]
BY_HAND = {
    "a.png": "96 80 0.5 3 400 100.0 1.25",
    "M\u00fcller.png": "96 80  1 40  2",
    "=1+1.png": "96 80  1 40  3",
}


def text(separator: str = ",", end: str = "\n", first: str = "") -> str:
    return first + "".join(line.replace(",", separator) + end for line in LINES)


def reordered() -> str:
    rows = [line.split(",") for line in LINES]
    return "".join(",".join([row[7], *row[1:7], row[0], "", ""]) + "\r\n" for row in rows)


SAVED = {
    "as it was written": text().encode(),
    "Windows' lines": text(end="\r\n").encode(),
    "an old Mac's lines": text(end="\r").encode(),
    "a byte order mark": text(end="\r\n").encode("utf-8-sig"),
    "semicolons": text(";", "\r\n").encode("utf-8-sig"),
    "semicolons, Western Windows": text(";", "\r\n").encode("cp1252"),
    "decimal commas": text(";").replace(".5;", ",5;").replace("00.0", "00,0").replace(".25", ",25").encode(),
    "tabs, UTF-16": text("\t", "\r\n").encode("utf-16"),
    "Excel's separator line": text(";", "\r\n", "sep=;\r\n").encode(),
    "other order, empty columns": reordered().encode(),
    "all quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in LINES).encode(),
    "empty lines": ("\n" + text(end="\n\n")).lstrip("\n").encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_rows_come_back_and_are_written_in_one_form(tmp_path, content):
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    read = read_table(path)
    assert read.problem is None
    assert read.more_columns == ()
    assert {
        name: " ".join(str(row[key]) for key in COLUMNS[1:]) for name, row in read.rows.items()
    } == BY_HAND
    table = PredictionsTable(path, ["none of these"])
    table.add("b.png", {"height": 9, "name": "left out"})
    table.close()
    by_name = [LINES[3], LINES[2], "b.png,9,,,,,,"]
    assert path.read_bytes().decode() == "\r\n".join(
        [LINES[0], by_name[0], by_name[1], LINES[1], by_name[2], ""]
    )


def test_a_column_of_the_users_stays(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("grade,image,objects\nG3,a.png,2\nG1,b.png,4\n")
    table = PredictionsTable(path, ["b.png"])
    table.add("b.png", {"objects": 5})
    table.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["objects"], row["grade"]) for row in rows] == [
        ("a.png", "2", "G3"),
        ("b.png", "5", ""),
    ]
    assert tuple(rows[0]) == (*COLUMNS, "grade")


@pytest.mark.parametrize(
    "content",
    [
        b"notes", b"a,b\n1,2\n", b"\0\0\0", b"image,objects\na.png,1,5\n", b"image,objects\n,1\n",
        b"image,image\na,b\n", b"\xff\xfe\x00", b'image,objects\n"a.png,1\n', b"image,objects\n" + b"x" * 200_000,
    ],
)  # fmt: skip
def test_what_is_no_table_is_moved_aside(tmp_path, content):
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    (tmp_path / "predictions.csv.kept-1").write_text("of the time before")
    table = PredictionsTable(path, [])
    table.add("a.png", {})
    table.close()
    aside, why = table.moved
    assert why
    assert aside.name == "predictions.csv.kept-2"
    assert aside.read_bytes() == content
    assert len(path.read_text().splitlines()) == 2


def test_an_empty_file_is_an_empty_table(tmp_path):
    (tmp_path / "predictions.csv").write_text("\n")
    assert read_table(tmp_path / "predictions.csv") == read_table(tmp_path / "none")
