"""`searcher gc`: what it says and its exit codes; what it keeps is tested in the ledger."""

import json

import optuna
import pytest
from stored_study import StoredStudy

from searcher.cli.main import main


def test_the_whole_database_is_collected_and_says_what_it_freed_and_kept(stored_study, tmp_path, capsys):
    other = StoredStudy(stored_study.database, tmp_path, study__name="other")
    for study in (stored_study, other):
        for value in (0.1, 0.2):
            study.complete(value)
    assert main(["gc", "--keep", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["s", "0.0", "MB", "3", "0.0", "MB", "1"] in lines
    assert ["other", "0.0", "MB", "3", "0.0", "MB", "1"] in lines
    assert [stored_study.files(n) for n in range(2)] == [[], ["best.pt"]]


def test_a_dry_run_names_every_file_and_removes_none(stored_study, capsys):
    number = stored_study.complete()
    assert main(["gc", "--study", "s", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[0] == "would remove s/trial-0000/last.pt"
    assert "would free" in output
    assert stored_study.files(number) == ["best.pt", "last.pt"]
    assert main(["gc", "--dry-run", "--json"]) == 0
    [report] = json.loads(capsys.readouterr().out)
    assert report == {
        "study": "s",
        "removed": ["s/trial-0000/last.pt"],
        "freed_bytes": 8192,
        "num_kept": 1,
        "kept_bytes": 8192,
        "problems": [],
        "dry_run": True,
    }


def test_by_default_five_are_kept(stored_study):
    for value in range(7):
        stored_study.complete(value / 10)
    assert main(["gc"]) == 0
    assert [stored_study.files(n) for n in range(7)] == [[], [], *[["best.pt"]] * 5]


def test_one_study_that_cannot_be_collected_does_not_keep_the_others_from_it(stored_study, tmp_path, capsys):
    other = StoredStudy(stored_study.database, tmp_path, study__name="other")
    for study in (stored_study, other):
        study.complete()
    optuna.delete_study(study_name="s", storage=stored_study.database.optuna_storage)
    assert main(["gc"]) == 1
    assert other.files(0) == ["best.pt"]
    assert stored_study.files(0) == ["best.pt", "last.pt"]
    assert "--study s: must be in Optuna's tables too" in capsys.readouterr().err
    assert main(["gc", "--study", "s"]) == 2


@pytest.mark.parametrize("arguments", [["--study", "../s"], ["--keep", "0"], ["--db", "none.db"]])
def test_bad_input_is_one_line_with_exit_code_2(stored_study, capfd, arguments):
    try:
        code = main(["gc", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["gc"],
        ["doctor", "--fix"],
        ["stop", "--study", "s"],
        ["export", "--study", "s", "--to", "bundle"],
        ["evaluate", "--study", "s", "--data", "no-such-folder"],
    ],
)
def test_a_database_that_may_only_be_read_is_refused_before_any_work(
    stored_study, monkeypatch, capsys, arguments
):
    from searcher.ledger import sqlite_file

    number = stored_study.complete()
    stored_study.database.close()
    monkeypatch.setattr(sqlite_file, "_is_writable", lambda path: False)  # tests may run as root
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "this user may only read it" in error
    assert error.count("\n") == 1
    assert stored_study.files(number) == ["best.pt", "last.pt"]
    assert main(["doctor"]) == 0
    assert main(["gc", "--dry-run"]) == 0
