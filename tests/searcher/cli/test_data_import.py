"""`searcher data import`: what it prints, writes and returns."""

import json
from pathlib import Path

import lab_formats as lab
import numpy as np
import pytest
from PIL import Image

from searcher.cli.main import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    lab.coco(tmp_path / "export", {"a": lab.without_hole(lab.truth()), "b": lab.without_hole(lab.truth(2))})


def test_import_and_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", "export", "--to", "out"]) == 0
    assert capsys.readouterr().out == "export: taken for coco; 2 images with 8 objects written to out\n"
    assert main(["data", "inspect", "--data", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["num_images"]) == ("folder", 2)
    assert main(["data", "import", "export", "--to", "out"]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err


def test_dry_run_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", "export", "--to", "out", "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["taken_for"], report["num_objects"], report["classes"]) == ("coco", 8, ["Gland"])
    assert not Path("out").exists()


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("export/images/b.png").unlink()
    assert main(["data", "import", "export", "--to", "out"]) == 1
    assert "left out: " in capsys.readouterr().out
    assert [path.name for path in Path("out/images").iterdir()] == ["a.png"]


def test_nothing_usable_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("export/images").iterdir():
        path.unlink()
    assert main(["data", "import", "export", "--to", "out"]) == 2
    assert "image 'a.png': must be one file below" in capsys.readouterr().err
    assert not Path("out").exists()


def test_every_verb_takes_it_directly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "--data", "export"]) == 0
    assert "2 images (coco) ready in" in capsys.readouterr().out


def test_masks_are_refused_or_taken_as_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        lab.write_image(Path(f"masks/images/{name}.png"), lab.truth())
        Path("masks/labels").mkdir(exist_ok=True)
        Image.fromarray(np.where(lab.truth() > 0, 255, 0).astype(np.uint8)).save(f"masks/labels/{name}.png")
    assert main(["data", "import", "masks", "--to", "out"]) == 2
    assert "--labels-are binary" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main(["data", "import", "masks", "--to", "out", "--labels-are", "binary"]) == 0
    assert "2 images with 8 objects written" in capsys.readouterr().out


def test_options_of_reading_hold_for_other_layouts_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", "export", "--to", "out", "--patient-from", "(.)"]) == 0
    assert Path("out/samples.csv").read_text().splitlines()[1:] == ["a,train", "b,train"]
    lab.coco(Path("other"), {"p1_a": lab.without_hole(lab.truth())})
    assert main(["data", "import", "other", "--to", "out2", "--patient-from", "(p\\d)_"]) == 0
    assert Path("out2/samples.csv").read_text().splitlines()[1:] == ["p1_a,p1,train"]
