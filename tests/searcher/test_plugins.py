"""Parts are found by name, ours and those of files and installed distributions; what is wrong is one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from searcher.plugins import PluginError, Registry, load_plugins, loaded_plugins


@pytest.fixture
def registry() -> Registry[type]:
    return Registry("shape", key="shape.name", built_in={"path": "pathlib:Path", "lock": "threading:Lock"})


@pytest.fixture
def shapes(registry: Registry[type], monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    """The registry, where a plug-in's file finds it."""
    monkeypatch.setattr(sys.modules["searcher.plugins"], "SHAPES", registry, raising=False)
    return registry


def plugin(folder: Path, name: str, body: str) -> str:
    (folder / name).write_text(f"from searcher.plugins import SHAPES\n{body}\n")
    return name


def test_what_is_built_in_is_imported_when_it_is_asked_for(registry):
    assert registry["path"] is Path
    assert registry.names() == ("path", "lock")
    assert registry.origin("path") == "searcher"


def test_a_file_registers_its_parts_once(shapes, tmp_path):
    name = plugin(tmp_path, "mine.py", "SHAPES.register('round', int)")
    first, again = (load_plugins([name], folder=tmp_path) for _ in range(2))
    assert first == again
    assert first[0].file == tmp_path / "mine.py"
    assert first[0] in loaded_plugins()
    assert shapes["round"] is int
    assert shapes.origin("round") == "mine.py"
    assert shapes.names() == ("path", "lock", "round")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "SHAPES.register('path', int)",
            "bad.py: shape 'path' is registered by searcher already; rename one",
        ),
        (
            "import nothing_like_it",
            "plugins: cannot import bad.py: ModuleNotFoundError: No module named 'nothing_l",
        ),
        ("raise ValueError('two\\nlines')", "plugins: cannot import bad.py: ValueError: two lines"),
        ("1 +", "plugins: cannot import bad.py: SyntaxError: invalid syntax"),
    ],
)
def test_a_file_that_cannot_be_taken_is_one_line(shapes, tmp_path, body, expected):
    name = plugin(tmp_path, "bad.py", body)
    with pytest.raises(PluginError) as caught:
        load_plugins([name], folder=tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(expected)
    assert shapes.names() == ("path", "lock")


def test_an_unknown_name_lists_the_known_ones(registry, tmp_path):
    with pytest.raises(PluginError, match=r"shape\.name: must be one of path, lock, got 'round'"):
        registry["round"]
    with pytest.raises(PluginError, match="which is no file"):
        load_plugins(["./none.py"], folder=tmp_path)


def test_an_installed_distribution_is_found_by_its_entry_point_and_a_broken_one_says_why(tmp_path):
    for name, body in (("good", "SHAPES.register('round', int)"), ("broken", "import nothing_like_it")):
        plugin(tmp_path, f"{name}_shapes.py", body)
        metadata = tmp_path / f"{name}_shapes-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-shapes\nVersion: 1.2\n")
        (metadata / "entry_points.txt").write_text(f"[searcher.plugins]\n{name} = {name}_shapes\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import searcher.plugins as p; p.SHAPES = p.Registry('shape', key='shape.name')\n"
        "print(p.SHAPES['round'], p.SHAPES.origin('round'))\n"
        "try: p.SHAPES['flat']\n"
        "except p.PluginError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    ).stdout
    assert told.splitlines() == [
        "<class 'int'> good-shapes 1.2",
        "shape.name: must be one of round, got 'flat'; plugins: cannot import broken-shapes 1.2: "
        "ModuleNotFoundError: No module named 'nothing_like_it'",
    ]
