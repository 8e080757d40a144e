"""Study files: every rule with an example that breaks it, and what the message must say."""

import pytest

from searcher.exceptions import StudyFileError
from searcher.study.reader import parse_study, parse_value
from searcher.study.space import Choice, Condition, FloatRange, IntRange

MINIMAL = '[study]\nname = "s"\n'


def problems(body: str, overrides: dict | None = None, *, study: str = MINIMAL) -> list[str]:
    with pytest.raises(StudyFileError) as caught:
        parse_study(study + body, source="s.toml", overrides=overrides)
    return caught.value.problems


def test_a_study_file_becomes_its_sections_space_and_points():
    spec = parse_study(
        """
        [study]
        name = "mine"
        objective = "object_hausdorff"
        trials = 7
        [model]
        depth = 3
        [space.optimizer]
        momentum = { low = 0, high = 0.9, step = 0.3, when = { "optimizer.name" = ["sgd"] } }
        name = { choices = ["sgd", "adamw"] }
        lr = { low = 1e-4, high = 1e-1, log = true }
        [space.train]
        batch_size = { low = 1, high = 8, log = true }
        [[enqueue]]
        optimizer.name = "adamw"
        optimizer.lr = 0.001
        """,
        source="mine.toml",
    )
    assert (spec.name, spec.study.trials, spec.objective.direction) == ("mine", 7, "minimize")
    assert spec.fixed == {"model.depth": 3}
    assert spec.space["optimizer.lr"].domain == FloatRange(1e-4, 1e-1, log=True)
    assert spec.space["train.batch_size"].domain == IntRange(1, 8, log=True)
    assert spec.space["optimizer.name"].domain == Choice(("sgd", "adamw"))
    assert spec.space["optimizer.momentum"].when == (Condition("optimizer.name", ("sgd",)),)
    assert spec.enqueue == ({"optimizer.name": "adamw", "optimizer.lr": 0.001},)


def test_a_parameter_stands_behind_the_one_its_condition_names():
    spec = parse_study(
        MINIMAL
        + '[space.optimizer]\nmomentum={low=0.0,high=0.9,when={"optimizer.name"=["sgd"]}}\n'
        + 'name={choices=["sgd","adam"]}',
        source="s.toml",
    )
    assert [parameter.name for parameter in spec.space.parameters] == ["optimizer.name", "optimizer.momentum"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '[space.data]\nnormalisation = { choices = ["auto", "fixed"] }',
            "space.data.normalisation: must not search 'auto', which is fixed or percentile on given images",
        ),
        ("colour = 3\n[modle]\na=1", "s.toml: modle: unknown table modle, got a table; did you mean model?"),
        ("[data]\ncrop_px = 3", "s.toml: data.crop_px: unknown key, got 3; did you mean augment.crop_px?"),
        (
            "[space.data]\ncrop_px = {low = 32, high = 64}",
            "s.toml: space.data.crop_px: unknown parameter; did you mean augment.crop_px?",
        ),
        ("[train]\nepoch = 3", "s.toml: train.epoch: unknown key, got 3; did you mean epochs?"),
        ("[train]\nepochs = 0", "s.toml: train.epochs: must be greater than or equal to 1, got 0"),
        ("[train]\nbatch_size = 2.5", "s.toml: train.batch_size: must be an integer, got 2.5"),
        ("[train]\ncompile = 'yes'", "s.toml: train.compile: must be a boolean, got 'yes'"),
        ('[model]\nnorm = "bach"', "s.toml: model.norm: must be 'none', 'batch' or 'group', got 'bach'"),
        ("[data]\nfolds = 2\nfold = 2", "s.toml: data: fold must be below folds, got fold=2 folds=2"),
        (
            "[space.optimizer]\nlr = {low = 0.1, high = 0.01}",
            "s.toml: space.optimizer.lr: low must be below high, got low=0.1 high=0.01",
        ),
        (
            "[space.optimizer]\nlr = {low = 0.0, high = 1.0, log = true}",
            "s.toml: space.optimizer.lr: low must be above 0 on a log scale, got low=0.0",
        ),
        ("[space.optimizer]\nlr = {low = 0.1}", "s.toml: space.optimizer.lr.high: must be given as a number"),
        (
            "[space.optimizer]\nlr = {low = 0.1, high = inf}",
            "s.toml: space.optimizer.lr.high: must be a finite number, got inf",
        ),
        (
            "[space.optimizer]\nlr = {low = 0.1, high = 1.0, step = 0.1, log = true}",
            "s.toml: space.optimizer.lr: step and log exclude each other, got step=0.1",
        ),
        (
            "[space.train]\nbatch_size = {low = 1, high = 3, step = 5}",
            "s.toml: space.train.batch_size: step must be above 0 and at most high - low, got step=5",
        ),
        (
            "[space.train]\nbatch_size = {low = 0, high = 3}",
            "s.toml: space.train.batch_size: must be greater than",
        ),
        (
            "[space.optimizer]\nlr = {choices = []}",
            "s.toml: space.optimizer.lr.choices: must be a list with at least",
        ),
        (
            "[space.optimizer]\nlr = {choices = [0.1, 0.1]}",
            "s.toml: space.optimizer.lr.choices: must hold each value once, got [0.1, 0.1]",
        ),
        (
            "[space.optimizer]\nlr = {low = 0.1, hihg = 1.0}",
            "s.toml: space.optimizer.lr.hihg: unknown key; did you mean high?",
        ),
        ("[space.optimizer]\nrl = {low = 0.1, high = 1.0}", "s.toml: space.optimizer.rl: unknown parameter"),
        (
            '[space.model]\nnorm = {choices = ["batch", "layer"]}',
            "s.toml: space.model.norm: must be 'none', 'batch' or 'group', got 'layer'",
        ),
        (
            "[optimizer]\nlr = 0.1\n[space.optimizer]\nlr = {low = 0.1, high = 1.0}",
            "s.toml: space.optimizer.lr: must not be both searched and fixed, got optimizer.lr=0.1",
        ),
        (
            '[space.optimizer]\nname={choices=["sgd"]}\nmomentum={low=0.1,high=0.9,when={"optimizer.name"=["adam"]}}',
            "s.toml: space.optimizer.momentum.when.optimizer.name: must name values that optimizer.name can take "
            "('sgd')",
        ),
        (
            '[space.optimizer]\nmomentum={low=0.1,high=0.9,when={"optimizer.nme"=["sgd"]}}',
            "s.toml: space.optimizer.momentum.when.optimizer.nme: unknown parameter; did you mean optimizer.name?",
        ),
        (
            '[space.optimizer]\nname={choices=["sgd"],when={"model.norm"=["none"]}}\n'
            '[space.model]\nnorm={choices=["none"],when={"optimizer.name"=["sgd"]}}',
            "must not go in a circle",
        ),
        (
            "[space.optimizer]\nlr={low=0.1,high=1.0}\n[[enqueue]]\noptimizer.lr = 3.0",
            "s.toml: enqueue[0].optimizer.lr: must lie in the space (0.1 .. 1.0), got 3.0",
        ),
        (
            "[space.data]\nsynthetic_seed = {low = 0, high = 3}",
            "s.toml: space.data.synthetic_seed: must not be searched",
        ),
        ("[[enqueue]]\noptimizer.lrr = 3.0", "s.toml: enqueue[0].optimizer.lrr: unknown parameter"),
    ],
)
def test_a_wrong_file_is_told_where_and_what(body, message):
    assert any(message in line for line in problems(body)), problems(body)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x", "A b", "x" * 101])
def test_a_study_name_cannot_leave_the_storage_root(name):
    assert "study.name" in problems("", study=f'[study]\nname = "{name}"\n')[0]


def test_a_value_where_a_table_belongs():
    assert problems("", study="train = 3\n" + MINIMAL) == [
        "s.toml: train: must be a table, got 3; write [train]"
    ]


def test_all_problems_come_at_once():
    lines = problems(
        "[train]\nepochs = 0\nbatchsize = 2\n[model]\ndepth = 99\n[space.optimizer]\nlr = {low = 1, high = 0}"
    )
    assert len(lines) == 4
    assert all(line.startswith("s.toml: ") for line in lines)


def test_invalid_toml_names_the_place():
    with pytest.raises(StudyFileError, match=r"s\.toml: must be valid TOML: .*line 2"):
        parse_study("[study]\nname = \n", source="s.toml")


SEARCHED = (
    MINIMAL
    + """
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 0.01, high = 1.0 }
momentum = { low = 0.1, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
[[enqueue]]
optimizer.name = "sgd"
optimizer.lr = 0.1
optimizer.momentum = 0.5
"""
)


def test_an_override_fixes_a_searched_parameter_everywhere():
    spec = parse_study(SEARCHED, source="s.toml", overrides={"optimizer.lr": 0.5})
    assert "optimizer.lr" not in spec.space
    assert spec.enqueue == ({"optimizer.name": "sgd", "optimizer.momentum": 0.5},)
    assert spec.trial_config({"optimizer.name": "adam"}).optimizer.lr == 0.5


def test_a_condition_on_a_fixed_parameter_is_settled():
    adam = parse_study(SEARCHED, source="s.toml", overrides={"optimizer.name": "adam"})
    sgd = parse_study(SEARCHED, source="s.toml", overrides={"optimizer.name": "sgd"})
    assert "optimizer.momentum" not in adam.space
    assert sgd.space["optimizer.momentum"].when == ()


def test_an_unknown_override_names_the_option():
    assert problems("", {"model.dept": 3})[0] == "--set model.dept: unknown key, got 3; did you mean depth?"
    assert problems("", {"foo.bar": 3})[0].startswith("--set foo.bar: unknown table foo, got a table")
    assert problems("", {"study.name.x": 3})[0].startswith("--set study.name.x: unknown key, got 3")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("1e-3", 0.001),
        ("true", True),
        ('"sgd"', "sgd"),
        ("sgd", "sgd"),
        ("bce+dice", "bce+dice"),
        ("[1]", [1]),
    ],
)
def test_values_on_the_command_line_are_toml_or_text(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_identity_changes_with_meaning_and_not_with_budget():
    spec = parse_study(SEARCHED, source="s.toml")
    more_trials = parse_study(SEARCHED, source="s.toml", overrides={"study.trials": 99, "resources.cpus": 3})
    more_epochs = parse_study(SEARCHED, source="s.toml", overrides={"train.epochs": 99})
    wider = parse_study(SEARCHED.replace("high = 1.0", "high = 2.0"), source="s.toml")
    assert spec.digest() == more_trials.digest()
    assert len({spec.digest(), more_epochs.digest(), wider.digest()}) == 3
