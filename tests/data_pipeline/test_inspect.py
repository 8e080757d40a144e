"""Inspection: counts that can be checked by hand, and a line for every file that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from searcher.data_pipeline import SyntheticGlands, inspect_dataset, open_dataset


def labelled(*rectangles: tuple[int, int, int, int, int], size: tuple[int, int] = (20, 30)) -> np.ndarray:
    labels = np.zeros(size, np.int32)
    for value, top, left, bottom, right in rectangles:
        labels[top:bottom, left:right] = value
    return labels


def test_counts_and_areas_by_hand(tmp_path: Path, array_source: Callable) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    items = [
        (image, labelled((1, 0, 0, 2, 5), (7, 5, 5, 10, 10))),  # 10 and 25 px
        (image, labelled((3, 0, 0, 4, 10))),  # 40 px
        (np.zeros((10, 10, 3), np.uint8), labelled(size=(10, 10))),
    ]
    report = inspect_dataset(array_source(items))
    assert (report.name, report.kind, report.num_images, report.num_groups) == ("arrays", "arrays", 3, 3)
    split = report.splits["train"]
    assert split.sizes == {"30x20": 2, "10x10": 1}
    assert split.strata == {"": 3}
    assert split.instances.count == 3
    assert split.instances.per_image == {
        "min": 0,
        "1%": 0.02,
        "25%": 0.5,
        "50%": 1,
        "75%": 1.5,
        "99%": 1.98,
        "max": 2,
    }
    assert split.instances.area_px["min"] == 10
    assert split.instances.area_px["50%"] == 25
    assert split.instances.area_px["max"] == 40
    assert split.instances.foreground == 75 / 1300
    assert report.problems == ()
    assert report.remarks == ("item_2: no instance is annotated",)


def test_a_label_in_several_pieces_is_remarked(array_source: Callable) -> None:
    """As in four images of GlaS's test B, where one label covers all glands; diagonal neighbours are one piece."""
    image = np.zeros((20, 30, 3), np.uint8)
    one_for_all = labelled((5, 0, 0, 2, 2), (5, 10, 10, 12, 12), (5, 15, 20, 18, 25))
    one_of_two = labelled((1, 0, 0, 2, 2), (1, 10, 10, 12, 12), (2, 15, 20, 18, 25))
    diagonal = labelled((1, 0, 0, 2, 2), (1, 2, 2, 4, 4))
    report = inspect_dataset(array_source([(image, m) for m in (one_for_all, one_of_two, diagonal)]))
    assert report.remarks == (
        "item_0: the only label lies in several separate pieces; is it one instance?",
        "item_1: 1 of 2 labels (1) lies in several separate pieces; is it one instance?",
    )


def test_unusable_files_are_listed_and_the_rest_is_counted(
    tmp_path: Path, write_glas: Callable[..., None]
) -> None:
    write_glas(tmp_path, ["train_1", "train_2", "train_3", "testA_1"])
    (tmp_path / "train_1_anno.bmp").unlink()  # seen on opening
    damaged = tmp_path / "train_3.bmp"
    damaged.write_bytes(damaged.read_bytes()[:-9])  # seen on reading
    report = inspect_dataset(open_dataset(tmp_path, strict=False))
    assert [problem.partition(": ")[0] for problem in report.problems] == [
        str(tmp_path / "train_1.bmp"),
        str(damaged),
    ]
    assert {split: members.num_images for split, members in report.splits.items()} == {"train": 1, "testA": 1}


def test_nothing_usable_gives_an_empty_report(tmp_path: Path, write_glas: Callable[..., None]) -> None:
    write_glas(tmp_path, ["train_1"])
    (tmp_path / "train_1_anno.bmp").unlink()
    report = inspect_dataset(open_dataset(tmp_path, strict=False))
    assert (report.num_images, report.splits, len(report.problems)) == (0, {}, 1)


def test_images_without_any_instance_have_no_areas(array_source: Callable) -> None:
    report = inspect_dataset(array_source([(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32))]))
    assert report.splits["train"].instances.area_px == {}
    assert report.splits["train"].instances.count == 0


def test_the_report_is_json_and_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    source = SyntheticGlands(num_images=4, size_px=96, seed=0, num_test_images=2)
    report = inspect_dataset(source, progress=lambda *done: calls.append(done))
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["splits"]["testA"]["num_images"] == 2
    assert plain["splits"]["train"]["strata"] == {"benign": 2, "malignant": 2}
    assert calls == [(n, 6) for n in range(1, 7)]


def test_classes_are_counted_by_split_and_odd_names_are_remarked(tmp_path: Path) -> None:
    from searcher.data_pipeline.datasets.drawing import write_drawn
    from searcher.data_pipeline.datasets.synthetic import SyntheticNuclei

    source = SyntheticNuclei(num_images=4, size_px=64, seed=0, num_test_images=1)
    write_drawn(source, tmp_path / "drawn")
    folder = open_dataset(tmp_path / "drawn")
    train = [index for index, sample in enumerate(folder.samples) if sample.split == "train"]
    names = [name for index in train for name in folder.read_annotated(index)[1].classes.values()]
    report = inspect_dataset(folder, labels_are_said=True)
    assert report.splits["train"].classes == {
        name: names.count(name) for name in ("epithelial", "lymphocyte")
    }
    assert not [line for line in report.remarks if "class" in line]
    (tmp_path / "drawn" / "dataset.toml").write_text('classes = ["epithelial", "Lympho cyte", "plasma"]\n')
    table = tmp_path / "drawn" / "objects.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *(f"{row.rpartition(',')[0]}," for row in rows[1:3]), *rows[3:]]))
    odd = inspect_dataset(open_dataset(tmp_path / "drawn"), labels_are_said=True)
    assert odd.splits["testA"].classes.get("", 0) + odd.splits["train"].classes.get("", 0) == 2
    said = [line for line in odd.remarks if "class" in line]
    assert any(
        "objects.csv has the class 'lymphocyte', which dataset.toml does not name" in line for line in said
    )
    assert any("no object has the class 'plasma'" in line for line in said)
