"""`searcher refine` and `searcher best` of a rerank, on studies without training."""

import json
from pathlib import Path

import pytest
from stored_study import RERANK, StoredStudy

from searcher.cli.main import main
from searcher.study.catalog import load_study


def run_trials(study: StoredStudy) -> None:
    """Eight COMPLETE trials: adam at rates near 0.01 is good, sgd is not."""
    for n in range(8):
        good = n < 3
        point = {"optimizer.name": "adam" if good else "sgd", "optimizer.lr": 0.01 * (1 + n / 10)}
        study.ledger.enqueue([point if good else point | {"optimizer.momentum": 0.5}])
        study.complete((0.8 if good else 0.4) + n / 1000)


def test_the_table_says_old_new_and_why(searched, capsys):
    assert main(["refine", "s"]) == 0
    shown = capsys.readouterr().out
    assert "5 best of 8 COMPLETE trials, 2, 1, 0, 7, 6, decide" in shown
    assert "0.001 .. 0.1 log" in shown
    assert main(["refine", "s", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["best"], record["num_complete"]) == ([2, 1, 0, 7, 6], 8)
    by_name = {each["name"]: each for each in record["parameters"]}
    # The best five lie in 0.01 .. 0.017, two decades are a width of 2: a fifth of a decade on both sides.
    assert by_name["optimizer.lr"]["new"] == "0.0063 .. 0.027 log"
    assert by_name["optimizer.lr"]["changed"]
    assert not by_name["optimizer.name"]["changed"]
    assert 0 <= by_name["optimizer.lr"]["importance"] <= 1


def test_the_written_file_is_a_study_with_its_reasons(searched, capsys, tmp_path: Path):
    assert main(["refine", "s", "--write", "narrow.toml"]) == 0
    assert "searcher launch --study narrow.toml" in capsys.readouterr().out
    text = Path("narrow.toml").read_text()
    assert "# was 0.001 .. 0.1 log." in text
    assert "the best 5 lie in" in text
    spec = load_study("narrow.toml")
    assert (spec.name, spec.parent.study, spec.parent.how) == ("s-narrow", "s", "refine")
    assert spec.parent.trials == [2, 1, 0, 7, 6]
    assert spec.enqueue == ({"optimizer.name": "adam", "optimizer.lr": 0.012},)
    assert spec.space["optimizer.lr"].domain.original_range == (0.001, 0.1)
    assert main(["validate", "narrow.toml"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refine", "t"], "--study t: must be a study of"),
        (["refine", "s", "--write", "narrow.txt"], "--write narrow.txt: must end in .toml"),
        (["refine", "s", "--write", "no/narrow.toml"], "its folder must exist; create"),
        (["refine", "s", "--write", "s.toml"], "--write s.toml: must not exist yet"),
    ],
)
def test_bad_input_is_one_line(searched, capsys, words, message):
    before = sorted(Path().iterdir())
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(Path().iterdir()) == before


CHILD = '[study]\nname = "{}"\n[parent]\nstudy = "{}"\nhow = "refine"\n'


@pytest.mark.parametrize("more", [[], ["--with-parents"]])
def test_a_launch_that_lacks_its_parent_starts_nothing(stored_study, capsys, more):
    """A circle of parents, a parent that is no study, and one without anything to refine."""
    Path("a.toml").write_text(CHILD.format("a", "b.toml"))
    Path("b.toml").write_text(CHILD.format("b", "a.toml"))
    Path("c.toml").write_text(CHILD.format("c", "unet-brood"))
    Path("d.toml").write_text(
        CHILD.format("d", "s").replace("[parent]", "objective = 'object_dice'\n[parent]")
    )
    before = sorted(Path().rglob("*"))
    for file, message in (
        ("a.toml", "must not lead back" if more else "must have been launched, got b"),
        ("c.toml", "known: " if more else "got unet-brood, which is not in the database"),
        (
            "d.toml",
            None if more else "must have 10 COMPLETE trials, got 0 (0 of 9 trials done), 10 are missing",
        ),
    ):
        if message is None:
            continue
        assert main(["launch", "--study", file, *more]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1, said
    assert sorted(Path().rglob("*")) == before
    assert stored_study.database.study_names() == ["s"]


def test_nothing_complete_is_nothing_to_refine(stored_study, capsys):
    assert main(["refine", "s"]) == 2
    assert "must have COMPLETE trials to refine, got none" in capsys.readouterr().err


def test_best_of_a_rerank_shows_means_intervals_and_the_drop(
    stored_study, tmp_path: Path, capsys, monkeypatch
):
    (tmp_path / "again").mkdir()
    again = StoredStudy(stored_study.database, tmp_path / "again", text=RERANK)
    again.ledger.enqueue(again.spec.enqueue)
    for value in (0.7, 0.74, 0.6, 0.76):  # trial 2: .7 and .6; trial 5: .74 and .76
        again.complete(value)
    assert main(["best", "--study", "again", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["number"], record["value"]) == (3, 0.76)
    first, second = record["rerank"]
    assert (first["trial"], first["mean"], first["drop"]) == (5, pytest.approx(0.75), pytest.approx(0.05))
    assert (second["trial"], second["mean"], second["drop"]) == (2, pytest.approx(0.65), pytest.approx(0.25))
    monkeypatch.setenv("SEARCHER_DB", "searcher.db")  # which is read once and leaves the environment
    assert main(["best", "--study", "again"]) == 0
    shown = capsys.readouterr().out
    assert "+0.0500" in shown
    assert "± 0.1271" in shown  # 12.706 * 0.01414 / sqrt(2)


SEVERAL = """
[study]
name = "several"
objective = "object_dice"
secondary_objectives = ["seconds_per_image"]
[space.optimizer]
lr = { low = 0.001, high = 0.1, log = true }
"""


def test_best_of_several_objectives_shows_the_compromises(stored_study, tmp_path: Path, capsys):
    (tmp_path / "several").mkdir()
    study = StoredStudy(stored_study.database, tmp_path / "several", text=SEVERAL)
    for dice, seconds in ((0.9, 2.0), (0.8, 3.0), (0.7, 1.0)):  # the second is worse than the first in both
        number = study.begin()
        study.ledger.report(number, 1, {"object_dice": dice, "seconds_per_image": seconds})
        study.ledger.complete(number, dice, best_epoch=1, stop_reason="epochs")
    assert main(["best", "--study", "several", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["number"] == 0
    assert [(each["number"], each["values"]) for each in record["front"]] == [
        (0, [0.9, 2.0]),
        (2, [0.7, 1.0]),
    ]
    assert main(["best", "--study", "several"]) == 0
    assert "no trial is better than one of these in every objective" in capsys.readouterr().out
    assert main(["trials", "--study", "several"]) == 0
    assert main(["status"]) == 0
