"""Optional packages: pyproject.toml and the code name the same extras; a feature says in one line which it lacks."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from new_database import new_database
from trained_runs import folder_of, make_runs

import searcher
from searcher.cli.main import main
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images.reading import open_raster
from searcher.extras import EXTRAS, is_installed, need

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_extras_are_those_of_the_distribution_and_all_of_them_are_here():
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"])
    assert all(find_spec(package) for packages in EXTRAS.values() for package in packages)
    assert all(map(is_installed, EXTRAS))


@pytest.fixture
def hidden(monkeypatch):
    """Make every package of every extra one that cannot be imported."""
    for package in [each for packages in EXTRAS.values() for each in packages]:
        for loaded in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_one_line_with_the_rule_and_the_remedy(extra, hidden):
    assert not is_installed(extra)
    with pytest.raises(searcher.UserError) as caught:
        need(extra, "--x y")
    wheel = f"gland_searcher-{searcher.__version__}-py3-none-any.whl"
    assert str(caught.value) == (
        f'--x y: must have the package {EXTRAS[extra][0]} of the extra "{extra}", got none; '
        f"pip install '.[{extra}]' in the checkout, or pip install '{wheel}[{extra}]'"
    )


def test_a_package_that_is_there_and_fails_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "openslide.py").write_text("raise ImportError('no library\\nlibopenslide.so.1')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openslide", raising=False)
    with pytest.raises(searcher.UserError, match=r"got one that fails: no library libopenslide\.so\.1; pip"):
        need("slides", "a.mrxs")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["dashboard", "--db", "study.db"], "dashboard"),
        (["best", "--study", "s", "--plot", "study.html"], "plots"),
        (["best", "--study", "s", "--plot", "study.png"], "plots"),
        (["evaluate", "bundle", "--data", "data", "--report", "page.html"], "plots"),
        (["status", "--db", "postgresql://u@127.0.0.1:1/x"], "postgres"),
        (["status", "--db", "host=127.0.0.1 port=1 dbname=x"], "postgres"),
        (["launch", "--study", "unet-demo", "--db", "postgres://u@127.0.0.1:1/x"], "postgres"),
    ],
)
def test_a_verb_without_its_extra_is_one_line_and_writes_nothing(
    command, extra, hidden, tmp_path, monkeypatch, capsys
):
    from searcher.ledger.address import _libpq_keywords

    _libpq_keywords.cache_clear()
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    _libpq_keywords.cache_clear()
    [line] = capsys.readouterr().err.splitlines()
    assert f'of the extra "{extra}", got none; pip install' in line
    assert list(tmp_path.iterdir()) == []


def test_a_slide_that_openslide_does_not_know_is_not_said_to_lack_openslide(tmp_path):
    pytest.importorskip("openslide")
    (tmp_path / "a.mrxs").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"a\.mrxs: must be a slide that OpenSlide opens, got a file that it does"
    ):
        open_raster(tmp_path / "a.mrxs", tmp_path)


def test_an_sqlite_study_needs_no_driver_of_postgresql(tmp_path):
    with new_database(tmp_path / "study.db"):
        pass
    code = f"""
import sys
from searcher.cli.main import main
assert main(["status", "--db", {str(tmp_path / "study.db")!r}]) == 0
assert "psycopg" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_bundle_without_plots_has_no_learning_curve_and_says_so(hidden, tmp_path, caplog):
    make_runs(tmp_path, ["plain"])
    assert main(["export", str(folder_of(tmp_path, "plain")), "--to", str(tmp_path / "bundle")]) == 0
    assert 'no learning curve is drawn: that takes the extra "plots"; pip install' in caplog.text
    assert not list((tmp_path / "bundle").rglob("learning-curve*"))


def test_one_version_everywhere():
    version = searcher.__version__
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.search(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert newest[1] == version
    assert f"date-released: {newest[2]}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"{version.rpartition('.')[0]}.x, is fixed" in (ROOT / "SECURITY.md").read_text()
    assert f"gland_searcher-{version}-py3" in (ROOT / "docs" / "python.md").read_text()
    assert f"gland-searcher:{version} ." in (ROOT / "docker" / "Dockerfile").read_text()
    [author] = PROJECT["authors"]
    assert f"name: {author['name']}\n" in (ROOT / "CITATION.cff").read_text()
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= PROJECT["urls"].keys()
