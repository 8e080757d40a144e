"""`searcher doctor`: exit codes, table, JSON."""

import json
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from searcher.cli.main import main
from searcher.ledger.tables import CheckpointRow

GOLDEN = Path(__file__).parents[1] / "ledger" / "golden"


def test_nothing_wrong_is_said_with_exit_code_0(stored_study, capsys):
    stored_study.complete()
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_can_be_fixed_is_1_without_and_0_with_fix(stored_study, capsys):
    stored_study.begin()
    assert main(["doctor", "--study", "s"]) == 1
    output = capsys.readouterr().out
    assert "trial 0" in output
    assert "1 to fix with --fix" in output
    assert main(["doctor", "--study", "s", "--fix", "--json"]) == 0
    [finding] = json.loads(capsys.readouterr().out)
    assert (finding["kind"], finding["state"]) == ("trial", "mended")
    assert main(["doctor", "--fix"]) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"


def test_what_cannot_be_fixed_is_1_each_time_with_the_command_that_helps_in_one_line(stored_study, capsys):
    number = stored_study.complete()
    (stored_study.folder(number) / "best.pt").unlink()
    for _ in range(2):
        assert main(["doctor", "--fix"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "1 left, which --fix cannot fix"
        assert lines[-2].startswith(
            f"train the parameters of s/trial-0000/best.pt again: searcher train --study {stored_study.file} "
        )


def test_text_of_the_database_steers_no_terminal_and_is_no_markup(stored_study, capsys):
    stored_study.complete()
    with stored_study.database.write() as session:
        session.execute(sa.update(CheckpointRow).values(uri="[/red]\x1b[2J"))
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "[/red]\\x1b[2J" in output
    assert "\x1b" not in output


def test_bad_input_is_one_line_with_exit_code_2(stored_study, capfd):
    for arguments, rule in ((["--study", "t"], "must be a study of"), (["--db", "none.db"], "must exist")):
        assert main(["doctor", *arguments]) == 2
        error = capfd.readouterr().err
        assert rule in error
        assert error.count("\n") == 1
    assert not Path("none.db").exists()


def test_an_older_database_is_upgraded_and_then_looked_at(stored_study, capsys):
    old = sqlite3.connect("old.db")
    old.executescript((GOLDEN / "0001.sql").read_text())
    old.close()
    assert main(["doctor", "--db", "old.db"]) == 1
    assert "1 to fix with --fix" in capsys.readouterr().out
    main(["doctor", "--db", "old.db", "--fix", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert (findings[0]["kind"], findings[0]["state"]) == ("database", "mended")
    main(["doctor", "--db", "old.db", "--fix", "--json"])
    assert "database" not in {finding["kind"] for finding in json.loads(capsys.readouterr().out)}
