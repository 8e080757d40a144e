"""`searcher metrics`: two folders in, the official figures out; every bad file by name."""

import json

import numpy as np
import pytest
from PIL import Image

from searcher.cli.main import main
from searcher.evaluation.official_metrics import METRICS


def save(path, labels):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, labels)
    else:
        Image.fromarray(np.asarray(labels, np.uint16 if path.suffix != ".bmp" else np.uint8)).save(path)


def squares(*boxes, shape=(20, 30)):
    """Labels 1, 2, .. painted as boxes (top, left, side)."""
    labels = np.zeros(shape, np.int32)
    for label, (top, left, side) in enumerate(boxes, start=1):
        labels[top : top + side, left : left + side] = label
    return labels


GLANDS = squares((1, 1, 8), (1, 15, 6), (12, 4, 5))


def measure(*arguments):
    return main(["metrics", "--truth", "t", "--prediction", "p", *arguments])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def official(values):
    return {name: values[name] for name in METRICS}


def test_two_images_by_hand(tmp_path, capsys):
    """Image 1: 64 px moved by (3, 4), of which 5 x 4 stay: not won, 5 px away. Image 2 exact, 16 px."""
    save(tmp_path / "t" / "1_anno.bmp", squares((1, 1, 8)))
    save(tmp_path / "t" / "2.png", squares((2, 2, 4)))
    save(tmp_path / "p" / "1.npy", squares((4, 5, 8)))
    save(tmp_path / "p" / "2_anno.tif", squares((2, 2, 4)))
    assert measure("--json", "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    dice, hausdorff = 2 * 20 / 128, 5
    assert official(found["pooled"]) == pytest.approx(
        {
            "f1": 2 / 4,
            "object_dice": (64 * dice + 16) / 80,
            "object_hausdorff": 64 * hausdorff / 80,
            "pixel_dice": 2 * (20 + 16) / 160,
        }
    )
    assert official(found["mean"]) == pytest.approx(
        {"f1": 0.5, "object_dice": (dice + 1) / 2, "object_hausdorff": 2.5, "pixel_dice": (dice + 1) / 2}
    )
    assert [(row["id"], row["num_true"], row["num_predicted"], row["f1"]) for row in found["images"]] == [
        ("1", 1, 1, 0),
        ("2", 1, 1, 1),
    ]
    assert (found["schema"], found["name"], found["split"]) == ("searcher-metrics-1", "p", None)
    assert "poster" not in found
    assert "strata" not in found
    output = capsys.readouterr()
    assert f"{found['pooled']['object_dice']:.4f}" in output.out
    assert (found["pooled"]["ap50"], found["pooled"]["aji"]) == (1 / 3, (20 + 16) / (64 + 64 - 20 + 16))
    assert "AP50" in output.out
    assert output.err == ""


def test_posters_metrics_on_request(tmp_path):
    save(tmp_path / "t" / "1.png", GLANDS)
    save(tmp_path / "p" / "1.png", GLANDS)
    assert measure("--poster", "--json", "out.json", "--name", "mine") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["poster"] == {"f1": 1, "object_dice": 1, "object_hausdorff": 0, "count": 1}
    assert found["name"] == "mine"


def test_a_mask_is_one_object_unless_relabelled(tmp_path, capsys):
    """Three glands as one object with the value 255: it covers more than half of the largest, 1 of 1 + 3 objects."""
    save(tmp_path / "t" / "1.png", GLANDS)
    save(tmp_path / "p" / "1.bmp", np.where(GLANDS > 0, 255, 0))
    assert measure("--json", "out.json") == 0
    plain = json.loads((tmp_path / "out.json").read_text())
    assert plain["pooled"]["f1"] == 2 / 4
    [hint] = capsys.readouterr().err.splitlines()
    assert hint.startswith("p: every prediction has one label at most")
    assert "--relabel" in hint

    assert measure("--json", "out.json", "--relabel") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["pooled"] == {
        "f1": 1, "object_dice": 1, "object_hausdorff": 0, "pixel_dice": 1, "ap50": 1, "ap": 1, "pq": 1, "aji": 1
    }  # fmt: skip
    assert found["relabelled"] is True
    assert found["as_labelled"]["pooled"] == plain["pooled"]
    output = capsys.readouterr()
    assert output.err == ""
    assert "relabelled" in output.out
    assert "as labelled" in output.out


def test_a_truth_with_one_label_for_all_is_named(tmp_path, capsys):
    """As images 3, 11, 18 and 19 of test B. The other image has one gland in one piece, which is nothing to name."""
    save(tmp_path / "t" / "testB_3.png", np.minimum(GLANDS, 1))
    save(tmp_path / "t" / "testB_4.png", squares((2, 2, 4)))
    for name in ("testB_3", "testB_4"):
        save(tmp_path / "p" / f"{name}.png", GLANDS)
    assert measure() == 0
    [hint] = capsys.readouterr().err.splitlines()
    assert hint.startswith("t: one label for all objects")
    assert "in testB_3;" in hint


def test_a_release_folder_is_measured_by_split_with_its_grades(tmp_path, capsys):
    save(tmp_path / "t" / "train_1_anno.bmp", GLANDS)
    for number in (2, 10):
        save(tmp_path / "t" / f"testA_{number}_anno.bmp", GLANDS)
        Image.new("RGB", (30, 20)).save(tmp_path / "t" / f"testA_{number}.bmp")
        save(tmp_path / "p" / f"testA_{number}.png", GLANDS)
    (tmp_path / "t" / "Grade.csv").write_text(
        "name,patient ID,grade (GlaS)\r\ntestA_2,1, benign\r\ntestA_10,2, malignant\r\ntrain_1,3, benign\r\n"
    )
    assert measure("--json", "out.json", "--split", "testA") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [(row["id"], row["stratum"]) for row in found["images"]] == [
        ("testA_2", "benign"),
        ("testA_10", "malignant"),
    ]
    assert list(found["strata"]) == ["benign", "malignant"]
    assert found["split"] == "testA"
    capsys.readouterr()
    assert measure() == 2
    [problem] = capsys.readouterr().err.splitlines()
    assert problem.startswith("t/train_1_anno.bmp: must have a prediction of the same name, got none in p")
    assert "--split" in problem
    assert measure("--split", "testB") == 2
    assert "must have label maps of testB, got none" in capsys.readouterr().err


def test_every_bad_file_is_named_and_nothing_is_written(tmp_path, capsys):
    for name in ("a", "b", "c", "d", "twice", "only_true"):
        save(tmp_path / "t" / f"{name}_anno.png", GLANDS)
    save(tmp_path / "p" / "a.png", GLANDS)
    save(tmp_path / "p" / "b.png", GLANDS[:, :25])
    save(tmp_path / "p" / "c.npy", GLANDS / 2)
    (tmp_path / "p" / "d.tif").write_bytes(b"nothing")
    for suffix in ("png", "npy"):
        save(tmp_path / "p" / f"twice.{suffix}", GLANDS)
    save(tmp_path / "p" / "only_predicted.png", GLANDS)
    assert measure("--json", "out.json") == 2
    output = capsys.readouterr()
    problems = output.err.splitlines()
    assert sorted(line.split(": ")[0] for line in problems) == [
        "p", "p/b.png", "p/c.npy", "p/d.tif", "p/only_predicted.png", "t/only_true_anno.png",
    ]  # fmt: skip
    assert any("twice must be one file, got twice.npy, twice.png" in line for line in problems)
    assert any("must have the size of b_anno.png, 30x20, got 25x20" in line for line in problems)
    assert output.out == ""
    assert not (tmp_path / "out.json").exists()


def test_a_predicted_image_and_its_overlay_beside_the_label_map_are_passed_over(tmp_path):
    save(tmp_path / "t" / "a.png", GLANDS)
    save(tmp_path / "p" / "a.labels.tif", GLANDS)
    for name in ("a.png", "a.overlay.png"):
        Image.new("RGB", (30, 20), "red").save(tmp_path / "p" / name)
    assert measure("--json", "out.json") == 0
    assert json.loads((tmp_path / "out.json").read_text())["pooled"]["f1"] == 1


@pytest.mark.parametrize(
    "names", [("a.labels.tif", "a_anno.bmp"), ("a.labels.tif", "a.npy"), ("a.npy", "a_anno.bmp")]
)
def test_two_label_maps_of_one_image_are_refused_however_they_are_called(tmp_path, capsys, names):
    save(tmp_path / "t" / "a.png", GLANDS)
    for name in names:
        save(tmp_path / "p" / name, GLANDS)
    assert measure() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"p: a must be one file, got {', '.join(names)}; keep one of them"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--truth", "nowhere", "--prediction", "p"], "nowhere: must be a folder of label maps"),
        (["--truth", "empty", "--prediction", "p"], "empty: must hold label maps as png, tif, bmp, npy"),
        (
            ["--truth", "p", "--prediction", "p", "--json", "no/out.json"],
            "--json no/out.json: its folder must exist",
        ),
        (["--truth", "p"], "--prediction"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, capsys, arguments, rule):
    save(tmp_path / "p" / "1.png", GLANDS)
    (tmp_path / "empty").mkdir()
    try:
        code = main(["metrics", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert rule in line
