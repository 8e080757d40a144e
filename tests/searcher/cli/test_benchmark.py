"""`searcher benchmark`: files of evaluate and metrics in, the contest's table out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from searcher.cli.main import main


def figures(f1, dice, hausdorff, num_images, **more):
    pooled = {"f1": f1, "object_dice": dice, "object_hausdorff": hausdorff, "pixel_dice": 0.9}
    return {"num_images": num_images, "pooled": pooled, **more}


A = figures(
    0.8976,
    0.8969,
    50.5,
    60,
    poster={"f1": 0.934, "object_dice": 0.944, "object_hausdorff": 29.7, "count": 0.9},
)
B = figures(0.72, 0.79, 150.0, 20)


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        "both.json",
        {"schema": "searcher-evaluation-1", "name": "unet", "splits": {"testA": A, "testB": B, "train": {}}},
    )
    write("a.json", {"schema": "searcher-metrics-1", "name": "theirs", "split": "testA", **A})
    write(
        "b.json",
        {"schema": "searcher-metrics-1", "name": "theirs", "split": "testB", "relabelled": True, **B},
    )


def write(name, value):
    Path(name).write_text(json.dumps(value))


def table(capsys, *arguments):
    assert main(["benchmark", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_ranks_by_hand(capsys):
    """F1 .898 is 2nd and .720 2nd; Dice .897 shares the 1st place, .790 is 2nd; Hausdorff 50.5 2nd, 150.0 4th."""
    found = table(capsys, "both.json")
    [ours] = [row for row in found["contest"] if row["source"] == "ours"]
    assert (ours["method"], ours["ranks"], ours["rank_sum"]) == ("unet", [2, 2, 1, 2, 2, 4], 13)
    assert found["contest"][0] == ours
    assert [row["method"] for row in found["contest"]][1:3] == ["CUMedVision2", "ExB1"]
    # CUMedVision2 falls behind ours in F1 B and Dice B and Hausdorff B: 1 + 4 + 1 + 6 + 1 + 7.
    assert found["contest"][1]["rank_sum"] == 20
    assert len(found["contest"]) == 11


def test_test_a_alone_is_ranked_by_test_a_and_said(capsys):
    found = table(capsys, "a.json")
    [ours] = [row for row in found["contest"] if row["source"] == "ours"]
    assert (ours["ranks"], ours["rank_sum"]) == ([2, None, 1, None, 2, None], 5)
    assert any(
        "theirs: not measured on testB, so all rows are ranked by" in line for line in found["remarks"]
    )
    assert main(["benchmark", "a.json"]) == 0
    assert "ranked by the three columns of testA alone" in capsys.readouterr().out


def test_files_of_one_name_are_one_row_and_an_equals_sign_names(capsys):
    found = table(capsys, "a.json", "b.json")
    [ours] = [row for row in found["contest"] if row["source"] == "ours"]
    assert (ours["method"], ours["f1"]) == ("theirs", [0.8976, 0.72])
    assert "theirs: testB relabelled, each piece of a label taken as an object" in found["remarks"]
    found = table(capsys, "first=both.json", "second=both.json")
    assert {row["method"] for row in found["contest"] if row["source"] == "ours"} == {"first", "second"}


def test_posters_rows_stand_beside_our_posters_metrics_alone(capsys):
    found = table(capsys, "both.json", "b=b.json")
    assert [(row["method"], row["f1"]) for row in found["poster"]] == [
        ("DTU-MASKRCNN", [0.922, 0.906]),
        ("DTU-UNET", [0.822, 0.862]),
        ("unet", [0.934, None]),
    ]
    assert {row["source"] for row in found["since"]} == {"since"}


def test_other_numbers_of_images_are_said(capsys):
    write("few.json", {"schema": "searcher-metrics-1", "name": "few", "split": "testA", **A, "num_images": 3})
    assert "few: measured on 3 images of testA, the contest's has 60" in table(capsys, "few.json")["remarks"]


def test_the_terminal_and_markdown_show_the_same_cells(tmp_path, capsys):
    assert main(["benchmark", "u|net=both.json", "--markdown", "t.md"]) == 0
    shown = capsys.readouterr().out
    markdown = (tmp_path / "t.md").read_text()
    for cell in ("0.898 (2)", "150.000 (4)", "74.300"):
        assert cell in shown
        assert cell in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| **u\\|net**")]
    assert rows[0] == (
        "| **u\\|net** | **0.898 (2)** | **0.720 (2)** | **0.897 (1)** | **0.790 (2)** | **50.500 (2)** | "
        "**150.000 (4)** | **13** |"
    )
    assert sum(line.startswith("| CUMedVision2 |") for line in markdown.splitlines()) == 1
    assert all(
        line.count("|") - line.count("\\|") in (8, 9)
        for line in markdown.splitlines()
        if line.startswith("|")
    )


def test_what_metrics_writes_is_read(tmp_path, capsys):
    for folder in ("t", "p"):
        (tmp_path / folder).mkdir()
        labels = np.zeros((9, 9), np.uint8)
        labels[2:6, 2:6] = 1
        Image.fromarray(labels).save(tmp_path / folder / "1.png")
    options = ["--split", "testB", "--name", "exact", "--poster", "--relabel", "--json", "m.json"]
    assert main(["metrics", "--truth", "t", "--prediction", "p", *options]) == 0
    capsys.readouterr()
    found = table(capsys, "m.json")
    assert (found["contest"][0]["method"], found["contest"][0]["f1"]) == ("exact", [None, 1])
    assert found["poster"][-1]["object_dice"] == [None, 1]


EVALUATION = {"schema": "searcher-evaluation-1", "name": "x"}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "x.json: the file must exist"),
        ("{", "x.json: must be JSON"),
        ("[1]", "x.json: must be a JSON object, got [1]"),
        ('{"pooled": {}}', "x.json: schema: must be searcher-evaluation-1 or searcher-metrics-1, got nothing"),
        ({"schema": "searcher-bundle-1"}, 'got "searcher-bundle-1"'),
        (EVALUATION, "x.json: splits: must be a table"),
        (EVALUATION | {"splits": {"train": A}}, "must be about testA or testB, got train; measure again with --splits"),
        ({"schema": "searcher-metrics-1", "name": "x", "split": None, **A}, "got no split; measure again with --split"),
        (EVALUATION | {"splits": {"testA": A["pooled"]}}, "x.json: splits.testA.num_images: must be at least 1"),
        (EVALUATION | {"splits": {"testA": {"num_images": 1}}}, "x.json: splits.testA.pooled: must be a table"),
        (EVALUATION | {"splits": {"testA": 5}}, "x.json: splits.testA: must be a table of figures, got 5"),
        (EVALUATION | {"splits": {"testA": figures(1.2, 1, 1, 1)}}, "testA.pooled.f1: must be a number from 0 to 1"),
        (EVALUATION | {"splits": {"testA": figures(1, None, 1, 1)}}, "pooled.object_dice: must be a number"),
        (EVALUATION | {"splits": {"testA": figures(1, 1, float("nan"), 1)}}, "object_hausdorff: must be a distance"),
        (EVALUATION | {"splits": {"testA": figures(1, 1, float("inf"), 1)}}, "object_hausdorff: must be a distance"),
        (EVALUATION | {"name": "", "splits": {"testA": A}}, "x.json: name: must be a text"),
    ],
)  # fmt: skip
def test_what_is_no_evaluation_is_refused_in_one_line(tmp_path, capsys, content, rule):
    if isinstance(content, str):
        (tmp_path / "x.json").write_text(content)
    elif content is not None:
        write("x.json", content)
    assert main(["benchmark", "both.json", "x.json", "--markdown", "t.md"]) == 2
    output = capsys.readouterr()
    [line] = output.err.splitlines()
    assert rule in line
    assert output.out == ""
    assert not (tmp_path / "t.md").exists()


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        (["a.json", "theirs=both.json"], "both.json: testA of a method must be in one file, got that of theirs in"),
        (["a.json", "other=b.json"], "must have a test set in common, got theirs on testA, other on testB"),
    ],
)  # fmt: skip
def test_files_that_do_not_go_together_are_refused(capsys, files, rule):
    assert main(["benchmark", *files]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert rule in line
