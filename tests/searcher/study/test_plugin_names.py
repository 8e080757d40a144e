"""A study file names plug-ins: they are imported before it is read, wherever it is read again."""

import os
from pathlib import Path

import pytest

from searcher.exceptions import StudyFileError
from searcher.plugins import loaded_plugins
from searcher.study.catalog import load_study
from searcher.study.derive import as_stored
from searcher.study.reader import parse_study
from searcher.study.writer import write_study

MINIMAL = '[study]\nname = "s"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder, beside the one that commands are typed in."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_files_are_found_beside_the_study_file_and_packages_too(folder):
    mine = write(folder / "mine.py", "A = 1")
    write(folder / "package" / "__init__.py", "from searcher.study import reader\nfrom . import part")
    write(folder / "package" / "part.py", "B = 2")
    study = write(folder / "s.toml", f'plugins = ["./mine.py", "./package", "json"]\n{MINIMAL}')
    spec = load_study(study)
    assert spec.plugins == (mine, str(folder / "package"), "json")
    assert {*spec.plugins} <= {plugin.source for plugin in loaded_plugins()}


def test_a_study_without_plugins_has_the_digest_that_it_had_and_one_with_them_has_it_too(folder):
    write(folder / "mine.py", "A = 2")
    plain = parse_study(MINIMAL, source="s.toml")
    mine = load_study(write(folder / "s.toml", f'plugins = ["mine.py"]\n{MINIMAL}'))
    assert plain.plugins == ()
    assert mine.digest() == plain.digest()


def test_the_command_line_adds_to_what_the_file_names(folder):
    own, other = write(folder / "own.py", "A = 3"), write(folder / "other.py", "A = 4")
    study = write(folder / "s.toml", f'plugins = ["own.py"]\n{MINIMAL}')
    assert load_study(study, {"plugins": [other, own]}).plugins == (own, other)


def test_what_is_written_down_names_them_wherever_it_lies(folder):
    mine = write(folder / "mine.py", "A = 5")
    spec = load_study(write(folder / "s.toml", f'plugins = ["mine.py"]\n{MINIMAL}'))
    assert parse_study(write_study(spec), source="copy").plugins == (mine,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('plugins = "mine.py"', "must be a list of modules and files, got 'mine.py'; write plugins = ["),
        ("plugins = [3]", "must be a list of modules and files, got [3]; write plugins = ["),
        (
            'plugins = ["./none.py"]',
            "must be files, packages or installed modules, got './none.py', which is no file",
        ),
        (
            'plugins = ["./"]',
            "must be files, packages or installed modules, got './', which is a folder without",
        ),
        ('plugins = ["bad.py"]', "cannot import bad.py: ZeroDivisionError: division by zero"),
        (
            'plugins = ["no_such_module"]',
            "cannot import no_such_module: ModuleNotFoundError: No module named",
        ),
        ('plugins = ["exits.py"]', "cannot import exits.py: SystemExit: 3"),
    ],
)
def test_what_cannot_be_imported_is_one_line_with_the_file(folder, line, problem):
    write(folder / "bad.py", "1 / 0")
    write(folder / "exits.py", "raise SystemExit(3)")
    study = write(folder / "s.toml", f"{line}\n{MINIMAL}[model]\nname = 'unknown'\n")
    with pytest.raises(StudyFileError) as caught:
        load_study(study)
    [told] = caught.value.problems  # what depends on them is not read
    assert told.startswith(f"{study}: plugins: {problem}")


def test_all_that_cannot_be_imported_is_said_at_once(folder):
    study = write(folder / "s.toml", f'plugins = ["./a.py", "./b.py"]\n{MINIMAL}')
    with pytest.raises(StudyFileError) as caught:
        load_study(study)
    assert len(caught.value.problems) == 2


def test_a_child_has_the_plugins_of_its_parents_files(folder):
    first, second = write(folder / "first.py", "A = 6"), write(folder / "second.py", "A = 7")
    write(folder / "first.toml", f'plugins = ["first.py"]\n{MINIMAL}')
    parent = '[parent]\nstudy = "{}"\nhow = "refine"\n[study]\nname = "{}"\n'
    write(folder / "second.toml", 'plugins = ["second.py"]\n' + parent.format("first.toml", "t"))
    child = load_study(write(folder / "third.toml", parent.format("second.toml", "u")))
    assert child.plugins == (first, second)


def test_parents_in_a_circle_are_left_to_whoever_follows_them(folder):
    text = '[parent]\nstudy = "s.toml"\nhow = "refine"\n[study]\nname = "s"\n'
    assert load_study(write(folder / "s.toml", text)).plugins == ()


def test_a_stored_study_whose_plugin_is_gone_can_still_be_read(folder):
    mine = write(folder / "mine.py", "A = 8")
    study = folder / "s.toml"
    text = f'plugins = ["mine.py"]\n{MINIMAL}'
    os.remove(mine)  # noqa: PTH107
    spec = parse_study(text, source="study s", origin=str(study), stored=True)
    assert spec.plugins == (mine,)
    with pytest.raises(StudyFileError, match="which is no file"):
        parse_study(text, source="study s", origin=str(study))


def test_a_stored_study_that_needs_what_is_gone_says_so(folder):
    text = f'plugins = ["gone.py"]\n{MINIMAL}[model]\nname = "theirs"\n'
    with pytest.raises(StudyFileError) as caught:
        parse_study(text, source="study s", origin=str(folder / "s.toml"), stored=True)
    assert caught.value.problems == [
        "study s: model.name: must be one of 'unet', 'mask_rcnn', got 'theirs'",
        f"study s: plugins: must be where the study found it, got no {folder / 'gone.py'}; put it back, or give "
        "--plugin FILE",
    ]


def test_a_copy_of_a_plugin_is_the_same_plugin(folder):
    """A study's folder that was moved: the database names the old place, `--plugin` the new one."""
    here, there = (write(folder / name / "copied.py", "A = 9") for name in ("old", "new"))
    studies = [
        write(folder / f"{n}.toml", f'plugins = ["{path}"]\n{MINIMAL}')
        for n, path in enumerate((here, there))
    ]
    assert load_study(studies[0]).plugins == load_study(studies[1]).plugins == (here,)


def test_a_study_that_goes_on_keeps_what_it_had_from_its_parent(folder):
    mine, theirs = write(folder / "mine.py", "A = 10"), write(folder / "theirs.py", "A = 11")
    text = '[parent]\nstudy = "p"\nhow = "refine"\n[study]\nname = "s"\n'
    space = "[space.train]\nbatch_size = {choices = [1, 2]}\n"
    stored = parse_study(f'plugins = ["{theirs}"]\n{text}{space}', source="study s")
    template = parse_study(f'plugins = ["{mine}"]\n{text}', source="s.toml")
    assert as_stored(template, stored).plugins == (theirs, mine)
