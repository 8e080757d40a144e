"""The reference pages that are generated while the site is built name all that is in the code."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from searcher.study.config_keys import config_fields
from searcher.study.reader import parse_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(monkeypatch):
    """Return a generated page by its module's name."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")

    def text(name):
        sys.modules.pop(name, None)
        return importlib.import_module(name).page()

    return text


def test_every_command_and_option_is_on_the_page(page):
    text = page("commands")
    assert "## `searcher launch`" in text
    assert "### `searcher data inspect`" in text
    assert "| `--with-parents` |" in text


def test_every_key_of_a_trial_is_on_the_page_with_its_default(page):
    text = page("study_file")
    keys = {key.rpartition(".")[2] for model in ("unet", "mask_rcnn") for key in config_fields(model)}
    assert {key for key in keys if f"| `{key}` |" not in text} == set()
    assert "| `trials` | whole number, >= 1, <= 1e+06 | `20` |" in text
    (row,) = re.findall(r"^## `\[optimizer\]`.*?^(\| `name` .*?)$", text, re.M | re.S)
    assert {"`adam`", "`adamw`", "`sgd`"} <= set(re.split(r"[ ,|]+", row))


def test_the_example_of_the_page_is_a_study_file(page):
    blocks = re.findall(r"```toml\n(.*?)```", page("study_file"), re.DOTALL)
    text = '[study]\nname = "s"\n' + "".join(blocks)
    spec = parse_study(text, source="s.toml")
    names = {f"optimizer.{key}" for key in ("name", "lr", "weight_decay", "momentum")}
    assert {each.name for each in spec.space.parameters} == names
    assert spec.enqueue == ({"optimizer.lr": 0.003},)


def test_every_table_of_ours_is_on_the_page(page):
    from searcher.ledger.tables import Base

    text = page("database")
    assert [name for name in Base.metadata.tables if f"## `{name}`" not in text] == []


def test_decisions_have_a_date_and_a_status(page):
    rows = re.findall(r"^\| (\d{3}) \| \[.*\]\(.*\.md\) \| \d+ \w+ \d{4} \| \w+", page("decisions"), re.M)
    assert len(rows) == len(list((ROOT / "docs" / "decisions").glob("0*.md")))


def test_every_page_is_in_the_menu():
    text = (ROOT / "mkdocs.yml").read_text()
    menu = yaml.safe_load(text)["nav"]
    named = set(re.findall(r"[\w/-]+\.md", str(menu)))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name in pages - named if not name.startswith("decisions/")} == set()
