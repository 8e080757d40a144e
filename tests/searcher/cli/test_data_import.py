"""`searcher data import`: what it prints, writes and returns."""

import json
from pathlib import Path

import lab_formats as lab
import pytest

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
