"""`searcher best --plot`: a page or a PNG of a study in the database, which is only read."""

import json
from pathlib import Path

import pytest
from parsed_page import ParsedPage
from PIL import Image
from stored_study import RERANK, StoredStudy

from searcher.cli.main import main


def run_trials(study: StoredStudy) -> None:
    """Nine trials with a value, one that the scheduler stopped, one that failed."""
    for n in range(9):
        study.ledger.enqueue([{"optimizer.name": "adam", "optimizer.lr": 0.002 * (1 + n)}])
        study.complete(0.5 + 0.03 * n)
    pruned = study.begin()
    study.ledger.report(pruned, 1, {"object_dice": 0.125})
    study.ledger.prune(pruned, 1)
    study.ledger.fail(study.begin(), "a test", retry=False)


def test_a_page_with_the_importances_of_refine(searched, tmp_path: Path, capsys):
    before = (tmp_path / "searcher.db").read_bytes()
    assert main(["best", "--study", "s", "--plot", "s.html"]) == 0
    assert (tmp_path / "searcher.db").read_bytes() == before, "the database is only read"
    assert "pictures: s.html" in capsys.readouterr().out
    page = ParsedPage(Path("s.html").read_text())
    assert "9 COMPLETE, 1 FAIL, 1 PRUNED, best object Dice 0.74 (trial 8)" in page.text
    assert main(["refine", "s", "--json"]) == 0
    shares = {each["name"]: each["importance"] for each in json.loads(capsys.readouterr().out)["parameters"]}
    text = Path("s.html").read_text()
    assert shares["optimizer.lr"] is not None
    assert f'"{shares["optimizer.lr"]:.2f}"' in text
    assert "0.125" in text, "the pruned trial is there"


def test_a_png_and_json_beside_it(searched, capsys):
    assert main(["best", "--study", "s", "--plot", "s.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == 8, "nothing but JSON"
    with Image.open("s.png") as picture:
        picture.load()
        assert picture.format == "PNG"


def test_a_rerank_has_its_pictures(stored_study, tmp_path: Path):
    (tmp_path / "again").mkdir()
    again = StoredStudy(stored_study.database, tmp_path / "again", text=RERANK)
    again.ledger.enqueue(again.spec.enqueue)
    for value in (0.7, 0.74, 0.6, 0.76):
        again.complete(value)
    assert main(["best", "--study", "again", "--plot", "again.html"]) == 0
    assert "This study searched nothing." in ParsedPage(Path("again.html").read_text()).text


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("s.pdf", "--plot s.pdf: must end in .html or .png, got s.pdf; choose one of the two"),
        ("no/s.png", "--plot no/s.png: its folder must exist; create"),
    ],
)
def test_bad_input_is_one_line(searched, capsys, file, message):
    before = sorted(Path().iterdir())
    assert main(["best", "--study", "s", "--plot", file]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert sorted(Path().iterdir()) == before
