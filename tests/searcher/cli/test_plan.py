"""`searcher plan`: a study file that trains, written once, or one line that says why there is none."""

import json

import numpy as np
import pytest
from PIL import Image

from searcher.cli.main import main


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """Eight tiles of 64 px with four round nuclei each."""
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:64, :64]
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / "tiles" / name).mkdir(parents=True)
    for number in range(8):
        labels = np.zeros((64, 64), np.uint8)
        for label, (row, column) in enumerate([(16, 16), (16, 46), (46, 16), (46, 46)], start=1):
            down, right = generator.integers(-4, 5, 2)
            labels[(y - row - down) ** 2 + (x - column - right) ** 2 <= 7**2] = label
        noise = generator.integers(-9, 10, (64, 64, 3))
        image = np.where(labels[..., None] > 0, (120, 60, 150), (230, 215, 230)) + noise
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "tiles" / "images" / f"tile{number}.png")
        Image.fromarray(labels).save(tmp_path / "tiles" / "labels" / f"tile{number}.png")
    return tmp_path / "tiles"


def test_what_is_written_is_valid_and_trains(tiles, capsys):
    assert main(["plan", "--data", str(tiles), "--write", "mine.toml"]) == 0
    told = capsys.readouterr().out
    assert "written to mine.toml; searcher launch --study mine.toml" in told
    assert "8 images are few" in told
    assert main(["validate", "mine.toml", "mine-folds.toml"]) == 0
    small = ("--epochs", "1", "--set", "data.samples_per_epoch=8", "--set", "train.batch_size=4")
    light = (
        "--set",
        "model.encoder=plain",
        "--set",
        "model.weights=none",
        "--set",
        "tuning.postprocess=false",
    )
    point = (
        "--set",
        "model.base_channels=2",
        "--set",
        "augment.crop_px=64",
        "--set",
        "model.input_scale=1.0",
    )
    assert main(["train", "--study", "mine.toml", "--data", str(tiles), *small, *light, *point]) == 0


def test_shown_and_as_json_it_is_the_same_and_nothing_is_written(tiles, capsys):
    assert main(["plan", "--data", str(tiles), "--name", "mine"]) == 0
    shown = capsys.readouterr().out
    assert main(["plan", "--data", str(tiles), "--name", "mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert shown.startswith(told["study"])
    assert told["name"] == "mine"
    assert [path.name for path in tiles.parent.iterdir() if path.suffix == ".toml"] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--write", "mine.txt"], "--write mine.txt: must end in .toml"),
        (["--write", "there.toml"], "--write there.toml: must not exist yet"),
        (["--write", "no/where.toml"], "--write no/where.toml: its folder must exist"),
        (["--name", "My Study"], "--name: must be lower-case letters"),
        (["--patient-from", "(tile)"], "must be of two patients or more, got 8 images of 1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tiles, capsys, options, expected):
    (tiles.parent / "there.toml").write_text("mine")
    assert main(["plan", "--data", str(tiles), *options]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    assert (tiles.parent / "there.toml").read_text() == "mine"


def test_the_name_follows_from_the_folder(tiles, capsys):
    odd = tiles.rename(tiles.parent / "Größe 12 [µm]")
    assert main(["plan", "--data", str(odd), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "plan-gr--e-12---m"


def test_a_launch_without_a_study_plans_one_and_later_launches_go_on_with_it(tiles, capsys):
    wrong = ("--set", "model.dept=3")  # is found after planning, before the launch
    assert main(["launch", "--data", str(tiles), *wrong]) == 2
    told = capsys.readouterr()
    file = tiles.parent / "runs" / "plan-tiles.toml"
    assert f"planned a study for {tiles}, with its reasons in {file}" in told.out
    assert "model.dept" in told.err
    assert file.with_name("plan-tiles-folds.toml").is_file()
    file.write_text(file.read_text().replace("trials = 20", "trials = 3"))
    assert main(["launch", "--data", str(tiles), *wrong]) == 2
    assert f"going on with the study planned before, {file}" in capsys.readouterr().out
    assert "trials = 3" in file.read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "--study: must name a study, or --data the images to plan one for, got neither"),
        (["--data", "tiles", "--detach"], "--detach: must have a study that is written down, got no --study"),
        (
            ["--data", "tiles", "--storage", "s3://bucket/x"],
            "--storage s3://bucket/x: must be a folder",
        ),
    ],
)
def test_a_launch_that_cannot_plan_is_one_line(tiles, capsys, options, expected):
    assert main(["launch", *options]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(expected)
    assert not (tiles.parent / "runs").exists()
