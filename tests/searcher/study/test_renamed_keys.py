"""Keys of study files under their old names: the same study, and one line that says the new ones."""

import logging

import pytest

from searcher.exceptions import StudyFileError
from searcher.study import renamed_keys
from searcher.study.reader import parse_study
from searcher.study.writer import write_study

OLD = """
[study]
name = "s"
also = ["loss"]
[search]
explore = 0.25
[space.optimizer]
name = { choices = ["adamw"], whole = ["sgd", "adamw"] }
[space.optimizer.lr]
low = 1e-3
high = 1e-2
whole = [1e-4, 1e-1]
"""
NEW = OLD.replace("also =", "secondary_objectives =").replace("explore", "exploration")
NEW = NEW.replace("whole", "original_range")


@pytest.fixture(autouse=True)
def _nothing_was_said_yet(monkeypatch):
    monkeypatch.setattr(renamed_keys, "_logged", set())


def test_the_old_names_make_the_same_study_with_one_line(caplog):
    parse_study(OLD, source="s.toml")
    old = parse_study(OLD, source="s.toml")
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        "s.toml: study.also is now called study.secondary_objectives, search.explore is now called search.exploration, "
        "space.optimizer.name.whole is now called space.optimizer.name.original_range, space.optimizer.lr.whole is now "
        "called space.optimizer.lr.original_range; the old name still works, write the new one"
    )
    caplog.clear()
    new = parse_study(NEW, source="s.toml")
    assert (old.study, old.search, old.space, old.digest()) == (
        new.study,
        new.search,
        new.space,
        new.digest(),
    )
    assert new.identity()["study.also"] == "loss", "digests and databases keep the stored name"
    assert "also" not in write_study(old)
    parse_study(OLD, source="study s", stored=True)
    assert not caplog.records


def test_the_command_line_takes_the_old_names_too(caplog):
    values = {
        "study.also": ["loss"],
        "space.optimizer.lr": {"low": 1e-3, "high": 1e-2, "whole": [1e-4, 1e-1]},
        "space.optimizer.weight_decay.low": 0.1,
        "space.optimizer.weight_decay.high": 0.2,
        "space.optimizer.weight_decay.whole": [0.0, 0.5],
    }
    with caplog.at_level(logging.WARNING):
        spec = parse_study('[study]\nname = "s"\n', source="s.toml", overrides=values)
    assert spec.study.secondary_objectives == ["loss"]
    ranges = [spec.space[f"optimizer.{name}"].domain.original_range for name in ("lr", "weight_decay")]
    assert ranges == [(1e-4, 1e-1), (0.0, 0.5)]
    assert spec.overrides["study.secondary_objectives"] == ["loss"]
    assert "--set: also of study is now called study.secondary_objectives" in caplog.text


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[study]\nname = "s"\nalso = ["loss"]\nsecondary_objectives = ["loss"]\n', "study.also"),
        (
            '[study]\nname = "s"\n[space.optimizer]\n'
            "lr = { low = 1e-3, high = 1e-2, whole = [1e-4, 1], original_range = [1e-4, 1] }\n",
            "space.optimizer.lr.whole",
        ),
    ],
)
def test_both_names_at_once_are_refused(text, where):
    with pytest.raises(StudyFileError, match=f"s.toml: {where}: must not be given beside .* remove it"):
        parse_study(text, source="s.toml")


def test_a_wrong_value_is_refused_under_the_new_name():
    with pytest.raises(StudyFileError, match=r"search\.exploration"):
        parse_study('[study]\nname = "s"\n[search]\nexplore = 3.0\n', source="s.toml")
