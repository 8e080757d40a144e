"""Study files that are written read as what was written."""

import pytest

from searcher.study.catalog import load_study, shipped_studies
from searcher.study.reader import parse_study
from searcher.study.writer import write_study

NARROWED = """
[study]
name = "s"
description = 'a "quoted" \\ text, ü'
[parent]
study = "unet-broad"
how = "refine"
trials = [3, 1]
[space.optimizer]
name = { choices = ["adamw"], original_range = ["sgd", "adamw"] }
lr = { low = 3e-4, high = 2e-3, log = true, original_range = [1e-5, 1e-1] }
momentum = { low = 0.0, high = 0.9, step = 0.1, when = { "optimizer.name" = ["sgd"] } }
[space.train]
batch_size = { low = 2, high = 6, step = 2, original_range = [2, 8] }
[space.data]
samples_per_epoch = { low = 10, high = 1000, log = true }
[[enqueue]]
optimizer.name = "sgd"
optimizer.lr = 0.09
optimizer.momentum = 0.3
"""
RERANK = """
[study]
name = "s"
[parent]
study = "b"
how = "rerank"
replicates = 2
candidates = [{ trial = 7, value = 0.9, params = { "optimizer.lr" = 1e-3, "model.norm" = "batch" } }]
"""


def fields(spec):
    return (
        spec.study, spec.search, spec.pruner, spec.resources, spec.parent, dict(spec.fixed),
        set(spec.space.parameters), spec.enqueue, spec.identity(),
    )  # fmt: skip


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study(name):
    spec = load_study(name)
    assert fields(parse_study(write_study(spec), source="again")) == fields(spec)


@pytest.mark.parametrize("text", [NARROWED, RERANK])
def test_narrowed_spaces_and_candidates(text):
    spec = parse_study(text, source="s.toml")
    assert fields(parse_study(write_study(spec), source="again")) == fields(spec)


def test_comments_stand_above_what_they_are_about():
    spec = parse_study(NARROWED, source="s.toml")
    text = write_study(spec, header=["what it is"], reasons={"optimizer.lr": "was wide\nbecause"})
    assert text.startswith("# what it is\n")
    assert "# was wide\n# because\nlr = {" in text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "lr = { low = 1e-3, high = 1e-2, original_range = [5e-3, 1e-1] }",
            "must reach from at most low to at least high",
        ),
        (
            "lr = { low = 1e-3, high = 1e-2, original_range = 3 }",
            "must be the lowest and the highest value before, got 3",
        ),
        (
            "lr = { low = 1e-3, high = 1e-2, log = true, original_range = [0.0, 1e-1] }",
            "must reach from at most low",
        ),
        ("lr = { low = 1e-3, high = 1e-2, original_range = [-1.0, 1e-1] }", "greater than 0"),
        ('name = { choices = ["sgd"], original_range = ["adam"] }', "must hold every one of choices"),
        ('name = { choices = ["sgd"], original_range = ["sgd", "sg"] }', "'sg'"),
        (
            "momentum = { low = 0.2, high = 0.4, step = 0.2, original_range = [0.1, 0.6] }",
            "must begin whole steps below low",
        ),
    ],
)
def test_a_wrong_whole_is_refused(entry, message):
    from searcher.exceptions import StudyFileError

    with pytest.raises(StudyFileError) as caught:
        parse_study(f'[study]\nname = "s"\n[space.optimizer]\n{entry}\n', source="s.toml")
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]
