"""Standard output that is closed, full or left by its reader, and errors that nobody foresaw."""

import json
import os
import stat
import subprocess
import sys

import pytest

from searcher.cli import status
from searcher.cli.main import main
from searcher.cli.unexpected_errors import Secrets, unexpected
from searcher.json_text import json_text

_SEARCHER = [sys.executable, "-m", "searcher.cli.main"]


def run(words, *, shell_end="", **options):
    command = f'"{sys.executable}" -m searcher.cli.main {words} {shell_end}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, **options
    )


@pytest.mark.parametrize("words", ["studies", "studies --json", "--help", "studies --help"])
def test_a_reader_that_has_gone_is_no_error(tmp_path, words):
    done = run(words, shell_end="| exec 0<&-", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["studies", "studies --json", "--help"])
def test_a_full_disk_is_one_line(tmp_path, words):
    done = run(words, shell_end="> /dev/full", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "standard output: must be writable, got No space left on device; send it elsewhere, or make room\n"
    )


def test_closed_streams_are_nothing_and_stay_so(tmp_path):
    done = run("studies", shell_end="<&- >&- 2>&-", cwd=tmp_path)
    assert done.returncode == 0
    code = "from searcher.cli.streams import prepare_streams as p; p(); assert open('x', 'w').fileno() > 2"
    command = f'"{sys.executable}" -c "{code}" <&- >&-'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_terminal_that_knows_ascii_alone(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("validate größe.toml", cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "gr\\xf6\\xdfe.toml" in done.stderr


def test_what_nobody_foresaw_is_a_line_and_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEARCHER_UNEXPECTED", "report")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("SEARCHER_DB", "postgresql://me:s3cret@host/x")

    def fails(*_):
        raise ZeroDivisionError("bad\n[/x] postgresql://me:s3cret@host/x")

    monkeypatch.setattr(status, "study_at_work", fails)
    monkeypatch.setattr("searcher.ledger.database.Database.open", fails)
    assert main(["status", "--study", "s"]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith(
        "searcher: an error that should not happen: ZeroDivisionError: bad\\n[/x] ***; the report is "
    )
    [report] = tmp_path.glob("searcher-error-*.txt")
    text = report.read_text()
    assert "Traceback" in text
    assert "searcher status --study s" in text
    assert "s3cret" not in text + printed
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


def test_nothing_is_caught_where_the_environment_says_so():
    with pytest.raises(ZeroDivisionError):  # tests/conftest.py does
        unexpected(ZeroDivisionError(), "searcher", Secrets({}))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:p@ss/w@h/d is away", "postgresql://***@h/d is away"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("password = 'a b' x", "password = *** x"),
        ("key AKIAX of env", "key *** of env"),
    ],
)
def test_secrets_are_masked(text, masked):
    assert Secrets({"AWS_ACCESS_KEY_ID": "AKIAX", "PATH": "/usr"}).masked(text) == masked


def test_json_has_no_numbers_that_json_does_not_have():
    value = {"a": [float("inf"), 1.5, {"b": float("nan")}], (1, 2): -float("inf")}
    assert json.loads(json_text(value)) == {"a": [None, 1.5, {"b": None}], "(1, 2)": None}
