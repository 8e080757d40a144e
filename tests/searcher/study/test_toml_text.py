"""What a study file can hold, and what is refused before it takes memory or time; writing it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.exceptions import StudyFileError
from searcher.study.reader import parse_study, parse_value, setting_words
from searcher.study.toml_text import TomlError, read_toml, shown, toml_value

_HEAD = '[study]\nname = "x"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = " + "[" * 100_000 + "]" * 100_000, "at most 32 tables or lists within one another"),
        ("a = " + "{b=" * 5000 + "1" + "}" * 5000, "at most 32 tables or lists"),
        (".".join(["a"] * 100_000) + " = 1", "keys of at most 32 parts, got one of 100000"),
        (" . ".join(['"a b"'] * 40) + " = 1", "got one of 40"),
        ("[" + ".".join(["'a'"] * 40) + "]", "got one of 40"),
        ("[[" + ".".join("1" * 40) + "]]", "got one of 40"),
        ("x = " + "9" * 5000, "an integer of thousands of digits"),
        ("x = 9223372036854775808", "x: must be an integer of at most 64 bits"),
        ("a.b = [1, {c = inf}]", "a.b.c: must be a finite number, got inf"),
        ("x = 1e400", "x: must be a finite number, got inf"),
        ("x = -nan", "x: must be a finite number, got nan"),
        (
            "x = 1979-05-27",
            "x: must be a number, a text (in quotes), true or false, not a date, got 1979-05-27",
        ),
        ("x = 07:32:00", "not a date, got 07:32:00"),
        ("x = 1\nx = 2", "must be valid TOML: Cannot overwrite a value"),
        ('x = """', "must be valid TOML"),
    ],
)
def test_what_no_study_holds_is_refused(text, problem):
    with pytest.raises(TomlError) as error:
        read_toml(text)
    assert problem in str(error.value)


def test_every_value_that_is_wrong_is_named():
    with pytest.raises(TomlError) as error:
        read_toml("a = inf\nb = 1979-05-27\nc = 1")
    assert [problem[:2] for problem in error.value.problems] == ["a:", "b:"]


def test_brackets_and_dots_in_texts_and_comments_are_text():
    text = (
        "x = '"
        + "[" * 50
        + "'\ny = \""
        + '\\"a.' * 50
        + '"\n# '
        + "a." * 50
        + '\nz = """'
        + '\\""a.{' * 50
        + '"""'
    )
    assert set(read_toml(text)) == {"x", "y", "z"}
    assert read_toml("x = [" + "0.5, " * 5000 + "]") == {"x": [0.5] * 5000}


@pytest.mark.parametrize(
    "unit",
    ['"""\\', "'''", '"""\\"', "[", "{a=", "a.", ' . "', "a" * 9, "#", "\\", "''\n", "a = 1\n", "[a.b]\n"],
)
def test_a_megabyte_of_anything_is_answered(unit):
    began = time.process_time()
    with pytest.raises(TomlError):
        read_toml(unit * (200_000 // len(unit)) + "\n=")
    assert time.process_time() - began < 60  # hours, where one of the patterns looks again from each place


_PLAIN = (
    st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
def test_a_value_is_read_as_it_was_written(value):
    assert read_toml(f"x = {toml_value(value)}") == {"x": value}
    [option, word] = setting_words({"x": value})
    read = parse_value(word.removeprefix("x="))
    assert (option, read, type(read)) == ("--set", value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["object_f1"]', ["object_f1"]),
        ("{ low = 1, high = 2 }", {"low": 1, "high": 2}),
        ("1\nother = 2", "1\nother = 2"),  # a second key, which nobody asked for
        ("inf", "inf"),
        ("9" * 5000, "9" * 5000),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_a_value_of_the_command_line(text, value):
    assert parse_value(text) == value


def test_a_message_shows_no_long_value():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert len(shown("x" * 10_000)) == 120
    assert "too large" in shown(deep)
    assert "too large" in shown(10**5000)


def problems(body, **options):
    with pytest.raises(StudyFileError) as error:
        parse_study(_HEAD + body, source="s.toml", **options)
    return error.value.problems


@pytest.mark.parametrize("wrong", ["[1]", "{a = 1}", "'text'", "true"])
def test_a_value_of_another_type_in_a_point(wrong):
    [problem] = problems(
        f"[space.optimizer]\nlr = {{low = 0.1, high = 1.0}}\n[[enqueue]]\noptimizer.lr = {wrong}"
    )
    assert problem.startswith("s.toml: enqueue[0].optimizer.lr")


@pytest.mark.parametrize("wrong", ["[[1]]", "[{a = 1}]", "[]", "{a = 1}"])
def test_a_condition_of_another_type(wrong):
    when = f'when = {{"optimizer.name" = {wrong}}}'
    body = f'[space.optimizer]\nname = {{choices = ["sgd"]}}\nlr = {{low = 0.1, high = 1.0, {when}}}'
    assert problems(body)[0].startswith("s.toml: space.optimizer.lr.when.")


def test_a_hundred_thousand_wrong_keys_are_answered_at_once():
    lines = problems("[space.optimizer]\n" + "\n".join(f"k{n} = 1" for n in range(50_000)))
    assert len(lines) < 40


def test_a_list_on_the_command_line():
    spec = parse_study(
        _HEAD + "[space.optimizer]\nlr={low=0.1,high=1.0}",
        source="s",
        overrides={"study.secondary_objectives": ["object_f1"]},
    )
    assert spec.study.secondary_objectives == ["object_f1"]


def test_a_table_on_the_command_line_leaves_the_files_other_keys():
    spec = parse_study(
        _HEAD + "[train]\nepochs = 3\nseed = 7", source="s", overrides={"train": {"epochs": 5}}
    )
    assert dict(spec.fixed) == {"train.epochs": 5, "train.seed": 7}
    assert dict(spec.overrides) == {"train.epochs": 5}


def test_a_range_on_the_command_line():
    overrides = {"space.optimizer.lr": {"low": 0.1, "high": 0.5}}
    spec = parse_study(_HEAD + "[space.optimizer]\nlr={choices=[1.0, 2.0]}", source="s", overrides=overrides)
    assert str(spec.space["optimizer.lr"].domain) == "0.1 .. 0.5"


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0.1, 0.3, 0.2), (0.0, 0.9, 0.3), (1, 3, 2), (0.7, 0.8, 0.1)]
)
def test_a_grid_of_few_values_in_spite_of_rounding(low, high, step):
    key = "data.fold" if isinstance(step, int) else "optimizer.lr"
    table, _, leaf = key.partition(".")
    low = low or (0.0 if key != "optimizer.lr" else 0.3)
    body = f"[data]\nfolds = 9\n[space.{table}]\n{leaf} = {{low = {low}, high = {high}, step = {step}}}"
    spec = parse_study(_HEAD + body, source="s")
    domain = spec.space[key].domain
    assert domain.contains(low)
    assert domain.contains(high)
    assert domain.contains(low + step)
