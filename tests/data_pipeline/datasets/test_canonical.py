"""The folder that an import writes says the same as its source."""

import csv
import json
import tomllib
from pathlib import Path

import lab_formats as lab
import numpy as np
import pytest
from PIL import Image

from searcher.data_pipeline import DataError, open_dataset
from searcher.data_pipeline.datasets.canonical import import_dataset
from searcher.data_pipeline.datasets.view import DataView, viewed


def test_import_gives_the_same_images_labels_and_classes(tmp_path: Path) -> None:
    lab.conic(tmp_path / "source", {"slide_1": lab.truth(), "slide_2": lab.truth(3)})
    source = open_dataset(tmp_path / "source", strict=False)
    report = import_dataset(source, "source", tmp_path / "deep" / "out")

    found = open_dataset(tmp_path / "deep" / "out")
    assert found.kind == "folder"
    assert list(found.samples) == list(source.samples)
    assert [sample.group for sample in found.samples] == ["slide_1", "slide_2"]
    for index in range(2):
        for one, other in zip(source.read(index), found.read(index), strict=True):
            assert np.array_equal(one, other)
    assert (report.taken_for, report.num_images, report.num_objects) == ("conic", 2, 8)
    assert (report.classes, report.left_out) == (("epithelial",), ())
    assert json.loads((tmp_path / "deep" / "out" / "import.json").read_text()) == json.loads(
        json.dumps(report.to_dict())
    )


def test_import_writes_what_is_known_of_images_and_objects(tmp_path: Path) -> None:
    lab.imagescope(tmp_path / "source", {"a": lab.truth()})
    import_dataset(open_dataset(tmp_path / "source"), "source", tmp_path / "out")
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "split", "pixel_size_um"],
            ["a", "train", "0.252"],
        ]
    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "label", "class"],
            *[["a", str(number), "Gland"] for number in range(1, 5)],
        ]
    description = tomllib.loads((tmp_path / "out" / "dataset.toml").read_text())
    assert description.pop("made_at")
    assert description == {
        "format": 1,
        "name": "source",
        "licence": "",
        "pixel_size_um": 0.252,
        "channels": ["red", "green", "blue"],
        "dtype": "uint8",
        "classes": ["Gland"],
        "made_by": "searcher data import",
        "made_from": "source",
        "taken_for": "imagescope",
    }


def test_classes_of_objects_survive_a_second_import(tmp_path: Path) -> None:
    lab.imagescope(tmp_path / "source", {"a1_x": lab.truth()})
    import_dataset(open_dataset(tmp_path / "source"), "source", tmp_path / "out")
    again = viewed(open_dataset(tmp_path / "out"), DataView(patient_from=r"^(a\d)"))
    report = import_dataset(again, "out", tmp_path / "again")
    assert report.classes == ("Gland",)
    objects = [(folder / "objects.csv").read_bytes() for folder in (tmp_path / "out", tmp_path / "again")]
    assert objects[0] == objects[1]
    pieces = viewed(open_dataset(tmp_path / "out"), DataView(labels_are="binary"))
    assert import_dataset(pieces, "out", None).classes == ()  # they are other objects than those of the table


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image,label\n", "the head must have image, label, class, each once, got image, label"),
        ("image,label,class\nb,1,x\n", "line 2: image must be an image's name, got b"),
        ("image;label;class\r\na;0;x\r\n", "line 2: label must be a whole number of at least 1, got 0"),
        ("image,label,class\na,1e3,x\n", "got 1e3"),
        ("image,label,class\na\n", "label must be a whole number of at least 1, got an empty cell"),
        (
            "image,label,class\na,1,x\na.png,1,x\n",
            "line 3: an object must have one row, got a second one for label 1",
        ),
        (
            "\ufeffimage,label,class\na,1,x\na,9,x\n",
            "every label must be in its image's label map, got 9 for a",
        ),
    ],
)
def test_a_table_of_objects_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, table: str, said: str
) -> None:
    lab.imagescope(tmp_path / "source", {"a": lab.truth()})
    import_dataset(open_dataset(tmp_path / "source"), "source", tmp_path / "out")
    (tmp_path / "out" / "objects.csv").write_text(table, encoding="utf-8", newline="")
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path / "out").read(0)
    (line,) = error.value.problems
    assert line.startswith(str(tmp_path / "out" / "objects.csv"))
    assert said in line


def test_a_damaged_file_is_left_out_and_named(tmp_path: Path) -> None:
    lab.qupath(tmp_path / "source", {"a": lab.truth(), "b": lab.truth()})
    damaged = tmp_path / "source" / "labels" / "b.geojson"
    damaged.write_text(damaged.read_text()[:200])
    report = import_dataset(open_dataset(tmp_path / "source", strict=False), "source", tmp_path / "out")
    assert report.num_images == 1
    (line,) = report.left_out
    assert line.startswith(f"{damaged}: must be complete JSON")
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["a.png"]


def test_a_dry_run_reads_everything_and_writes_nothing(tmp_path: Path) -> None:
    lab.qupath(tmp_path / "source", {"a": lab.truth()})
    before = sorted(tmp_path.rglob("*"))
    assert import_dataset(open_dataset(tmp_path / "source"), "source", None).num_objects == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_overwritten_or_left_half_written(tmp_path: Path) -> None:
    lab.qupath(tmp_path / "source", {"a": lab.truth()})
    source = open_dataset(tmp_path / "source")
    with pytest.raises(DataError, match="must be a new or empty folder"):
        import_dataset(source, "source", tmp_path / "source")
    Image.new("RGB", (3, 3)).save(tmp_path / "source" / "images" / "a.png")  # of another size by now
    with pytest.raises(DataError, match="must lie in its image of 3x3 px"):
        import_dataset(source, "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_more_labels_than_16_bits_hold(tmp_path: Path) -> None:
    lab.ome_zarr(tmp_path / "source", {"a": lab.truth()})
    source = open_dataset(tmp_path / "source")
    image, labels = source.read(0)
    source.read_annotated = lambda _index: (image, lab_annotation(labels * 50_000))  # type: ignore[attr-defined]
    import_dataset(source, "source", tmp_path / "out")
    assert np.array_equal(open_dataset(tmp_path / "out").read(0)[1], labels * 50_000)


def lab_annotation(labels: lab.Labels) -> object:
    from searcher.data_pipeline.datasets.annotations.annotation import Annotation

    return Annotation(labels)
