"""Every verb that prints, with text from outside in every place that the database has for text."""

import io
import json
import sqlite3
import unicodedata

import pytest

from searcher.cli.main import main

HOSTILE = (
    "[/x] [red]:apple: \x1b[31m\x9b2J \r\n second line <script>alert(1)</script> =cmd() \u202e{{7*7}}\t\ud800"
)


@pytest.fixture
def hostile_study(stored_study):
    """The study `s` with a trial that is COMPLETE and one that failed, and hostile text wherever text is free."""
    with stored_study.lease():
        best = stored_study.complete(0.75)
        failed = stored_study.begin()
        stored_study.ledger.fail(failed, HOSTILE.encode("utf-8", "replace").decode(), retry=False)
    database = sqlite3.connect("searcher.db")
    as_text = HOSTILE.encode("utf-8", "replace").decode()  # what UTF-8 and so SQLite can hold
    for table, column in (
        ("searcher_launches", "host"),
        ("searcher_launches", "outcome"),
        ("searcher_studies", "data_source"),
        ("searcher_checkpoints", "problem"),
    ):
        [columns] = [{row[1] for row in database.execute(f"pragma table_info({table})")}]
        assert column in columns, (table, columns)
        database.execute(f"update {table} set {column} = ?", (as_text,))
    database.execute("update trial_params set param_name = ? where param_name = 'optimizer.lr'", (as_text,))
    database.execute(
        "update trial_user_attributes set value_json = ? where key in ('fail_reason', 'stop_reason')",
        (json.dumps(HOSTILE),),
    )
    database.commit()
    database.close()
    (stored_study.folder(best) / "trial.log").write_bytes(as_text.encode())
    return stored_study


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status --study s",
        "trials --study s",
        "best --study s",
        "best --study s --plot page.html",
        "logs --study s --trial 0",
        "logs --study s --trial 1",
        "logs --study s",
        "stop --study s",
        "refine s",
        "refine s --write n.toml",
        "doctor",
        "doctor --study s",
        "gc --study s --dry-run",
    ],
)
def test_a_verb_prints_no_command_and_no_markup(hostile_study, capsys, words, tmp_path):
    assert main(words.split()) in (0, 1, 2)
    printed = "".join(capsys.readouterr())
    assert printed
    _assert_harmless(printed)
    if "page.html" in words:
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "<script>alert" not in page
        assert "\u202e" not in page


@pytest.mark.parametrize(
    "words", ["status --json", "trials --study s --json", "best --study s --json", "doctor --json"]
)
def test_json_has_every_text_and_is_ascii(hostile_study, capsys, words):
    assert main(words.split()) in (0, 1, 2)
    printed = capsys.readouterr().out
    assert printed.isascii()
    _assert_harmless(printed)
    assert "second line" in json.dumps(json.loads(printed))


def test_a_reason_is_shown_whole(hostile_study, capsys):
    assert main(["trials", "--study", "s", "--json"]) == 0
    reasons = [trial["notes"].get("fail_reason") for trial in json.loads(capsys.readouterr().out)]
    assert HOSTILE in reasons
    assert main(["trials", "--study", "s"]) == 0
    assert "[/x]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["trials", "--study", HOSTILE],
        ["trials", "--study", "s", "--db", HOSTILE],
        ["validate", HOSTILE],
        ["validate", HOSTILE + ".toml"],
        ["launch", "--study", "unet-demo", "--set", f"model.{HOSTILE}=1"],
        ["launch", "--study", "unet-demo", "--set", f"study.objective={HOSTILE}"],
        ["launch", "--study", "unet-demo", "--data", HOSTILE],
        ["data", "inspect", "--data", HOSTILE],
        ["benchmark", HOSTILE],
        ["metrics", "--truth", HOSTILE, "--prediction", "x"],
        ["predict", HOSTILE, "x", "--to", "y"],
        ["dashboard", "--token-file", HOSTILE],
        ["logs", "--study", "s", "--trial", HOSTILE],
        [HOSTILE],
        ["status", "--json", HOSTILE],
    ],
)
def test_a_wrong_argument_is_one_line(stored_study, capsys, words):
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    _assert_harmless(printed.err)


_ODD = ["", ".", "..", "x" * 5000, "a/b", "\udcff", "no\nsuch", "/dev/zero", "folder"]


@pytest.mark.parametrize(
    "words",
    [
        ["trials", "--study"],
        ["validate"],
        ["data", "inspect", "--data"],
        ["benchmark"],
        ["metrics", "--prediction", ".", "--truth"],
        ["evaluate", "--data", ".", "--bundle"],
        ["dashboard", "--token-file"],
        ["refine", "s", "--write"],
        ["best", "--study", "s", "--plot"],
        ["launch", "--study", "unet-demo", "--data"],
        ["train", "--study", "unet-demo", "--epochs"],
        ["train", "--study", "unet-demo", "--set"],
        ["train", "--study", "unet-demo", "--data", "nowhere", "--storage"],
        ["predict", "--to", "out", "no-bundle"],
        ["status", "--db"],
        ["status", "--db", "@{}"],
        ["validate", "{}.toml"],
    ],
)
def test_an_odd_argument_is_one_line(stored_study, tmp_path, capsys, monkeypatch, words):
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")  # what lies above belongs to this test alone
    monkeypatch.setenv("SEARCHER_DB", str(tmp_path / "searcher.db"))
    for name in _ODD:
        filled = [word.format(name) for word in words] if "{}" in " ".join(words) else [*words, name]
        try:
            code = main(filled)
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        if name == "" and filled[:2] == ["status", "--db"]:
            continue  # an empty option is one that was left out
        assert code == 2, (filled, printed)
        assert (printed.err or printed.out).count("\n") >= 1  # data inspect prints problems as its result
        _assert_harmless(printed.err)


def _assert_harmless(text):
    obeyed = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not obeyed - {"\t"}
    assert "\U0001f34e" not in text  # of :apple:


def test_a_cell_is_one_line_whatever_is_in_it():
    from rich.console import Console
    from rich.text import Text

    from searcher.cli.tables import table

    console = Console(width=400, record=True, file=io.StringIO())
    console.print(table(["a[/b]\n"], [[HOSTILE], [Text(HOSTILE, style="bold")]], title=HOSTILE))
    lines = [line for line in console.export_text().splitlines() if line.strip()]
    assert len(lines) == 5  # title, head, rule, two rows
    _assert_harmless("".join(lines))
