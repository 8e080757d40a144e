"""README, docs and docstrings stay as readable as they are: `python tests/support/readability.py` has the figures."""

import json

import pytest
import readability

CEILINGS = json.loads(readability.CEILINGS.read_text())


@pytest.fixture(scope="module")
def found():
    return readability.areas()


def test_every_area_has_a_ceiling(found):
    assert CEILINGS.keys() == found.keys()


@pytest.mark.parametrize("area", CEILINGS)
def test_no_area_has_more_long_sentences_or_forbidden_words_than_its_ceiling(found, area):
    now, ceiling = readability.figures(found[area]), CEILINGS[area]
    longest = sorted(
        f"{each.num_words} {each.where}: {each.text}" for each in found[area] if each.num_words > 25
    )
    assert now.long_percent <= ceiling["long_percent"], "\n".join(longest)
    assert now.forbidden_percent <= ceiling["forbidden_percent"], "\n".join(readability.findings(found[area]))


def test_sentences_of_a_page_are_told_from_its_code(tmp_path):
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "searcher").mkdir()
    page = "# A heading of many words\n\nOne two three four. Five [six](x.md) `a b c` eight.\n\n    code is no text\n"
    (tmp_path / "README.md").write_text(
        page + "\n| a cell of five words | b |\n|---|---|\n\n- An item (Li et al. 2018) ends.\n"
    )
    texts = [each.text for each in readability.areas(tmp_path)["README"]]
    assert texts == [
        *("One two three four.", "Five six `code` eight."),
        *("a cell of five words", "An item (Li et al 2018) ends."),
    ]


def test_docstrings_of_attributes_and_entries_of_args_are_sentences(tmp_path):
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "README.md").write_text("")
    (tmp_path / "models").mkdir()
    (tmp_path / "searcher").mkdir()
    doc = '"""Return a mended thing here.\n\nArgs:\n    x: One two three\n        four five.\n"""\n'
    text = doc + 'X = 1\n"""A value of four."""\n'
    (tmp_path / "models" / "a.py").write_text(text)
    sentences = readability.areas(tmp_path)["models"]
    assert [each.num_words for each in sentences] == [5, 5, 4]
    assert len(readability.findings(sentences)) == 1
