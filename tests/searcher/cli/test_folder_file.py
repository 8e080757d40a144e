"""`searcher.toml` and `[tool.searcher]`: what need not be repeated in a folder."""

from pathlib import Path

import pytest

from searcher.cli.main import main
from searcher.ledger.database import Database


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    return tmp_path


def refused(capfd, *words: str) -> str:
    try:
        code = main([*words])
    except SystemExit as end:
        code = end.code
    assert code == 2
    return capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "head"),
    [("searcher.toml", ""), ("pyproject.toml", "[project]\nname = 'lab'\n[tool.searcher]\n")],
)
def test_the_database_is_that_of_the_file(folder, capfd, monkeypatch, name, head):
    """A command line or SEARCHER_DB that names another goes before it."""
    (folder / name).write_text(f"{head}db = 'lab.db'\n")
    Database.open("lab.db", create=True).close()
    assert main(["status", "--json"]) == 0
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("[]\n", "")
    assert f"{folder}/other.db: the database must exist" in refused(capfd, "status", "--db", "other.db")
    monkeypatch.setenv("SEARCHER_DB", "environment.db")
    assert f"{folder}/environment.db: the database must exist" in refused(capfd, "status")


def test_our_own_file_goes_before_the_projects(folder, capfd):
    (folder / "searcher.toml").write_text("db = 'own.db'")
    (folder / "pyproject.toml").write_text("[tool.searcher]\ndb = 'project.db'")
    assert f"{folder}/own.db: the database must exist" in refused(capfd, "status")


def test_a_project_that_says_nothing_of_searcher_may_be_anything(folder, capfd):
    (folder / "pyproject.toml").write_text("[project")
    assert f"{folder}/searcher.db: the database must exist" in refused(capfd, "status")


@pytest.mark.parametrize(
    "text",
    [
        "tool = {searcher = {db = 'lab.db'}}",
        "[ tool.searcher ]\ndb = 'lab.db'",
        "[tool]\nsearcher.db = 'lab.db'",
    ],
)
def test_a_project_may_write_the_table_in_any_way_of_toml(folder, capfd, text):
    (folder / "pyproject.toml").write_text(text)
    assert f"{folder}/lab.db: the database must exist" in refused(capfd, "status")


def test_a_project_that_names_searcher_elsewhere_has_no_settings(folder, capfd):
    (folder / "pyproject.toml").write_text("# [tool.searcher]\n[project]\ndependencies = ['gland-searcher']")
    assert f"{folder}/searcher.db: the database must exist" in refused(capfd, "status")


def test_data_and_storage_are_said_where_something_is_trained_or_measured(folder, capfd):
    """A required option may come from the file; what it gave is said, since nobody typed it."""
    (folder / "searcher.toml").write_text("data = 'glands'\nstorage = 'trained'")
    shown = refused(capfd, "launch", "--study", "unet-demo")
    assert shown.splitlines()[0] == "searcher.toml: storage trained, data glands"
    assert shown.splitlines()[1].startswith(f"{folder}/glands: the data folder must exist")
    assert "the following arguments are required" not in refused(capfd, "evaluate", "x.pt")
    assert [path.name for path in folder.iterdir()] == ["searcher.toml"]


def test_exports_data_are_those_of_the_study(folder, capfd):
    """`export --data` says where they are now, which the folder's file does not."""
    (folder / "searcher.toml").write_text("data = 'glands'")
    assert "glands" not in refused(capfd, "export", "--study", "x", "--to", "bundle")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dbb = 'x'", "searcher.toml: dbb: unknown key, got 'x'; did you mean db?"),
        ("trials = 3", "searcher.toml: trials: unknown key, got 3; known: data, db, storage"),
        ("db = 3", 'searcher.toml: db: must be a text, got 3; e.g. db = "PATH"'),
        ("data = ' '", "searcher.toml: data: must be a text, got ' '; e.g. data = \"PATH\""),
        ("db =", "searcher.toml: must be valid TOML: Invalid value (at end of document)"),
        (
            "db = 'postgresql://lab:hunter2@host/studies'",
            "searcher.toml: db: must not hold a password; put the whole URL into a file of its own, "
            'and write db = "@FILE", or set SEARCHER_DB',
        ),
    ],
)
def test_a_wrong_file_is_one_line(folder, capfd, text, problem):
    (folder / "searcher.toml").write_text(text)
    assert refused(capfd, "status") == f"{problem}\n"


def test_a_password_may_be_in_a_file_that_the_file_names(folder, capfd):
    (folder / "searcher.toml").write_text("db = '@secret.txt'")
    (folder / "secret.txt").write_text("postgresql://lab:hunter2@127.0.0.1:1/studies\n")
    assert main(["status"]) == 2
    shown = capfd.readouterr().err
    assert "127.0.0.1:1" in shown
    assert "hunter2" not in shown
