"""Code has a digest that tells two revisions apart, and no two places of one."""

import hashlib
import shutil
from pathlib import Path

import pytest

from searcher.orchestration.cluster.code_digest import code_digest
from searcher.plugins import load_plugins
from searcher.plugins import python_digest as digest_of


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "nets"
    (folder / "blocks").mkdir(parents=True)
    (folder / "unet.py").write_text("depth = 4\n")
    (folder / "blocks" / "conv.py").write_text("")
    return folder


def test_names_and_contents_count(package):
    by_hand = b"blocks/conv.py\0" + b"0\0" + b"unet.py\0" + b"10\0" + b"depth = 4\n"
    assert digest_of(package) == hashlib.sha256(by_hand).hexdigest()


def test_a_copy_elsewhere_has_the_same_and_what_is_not_python_does_not_count(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "there" / "nets")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "unet.cpython-311.pyc").write_bytes(b"\0")
    (copy / "notes.txt").write_text("x")
    (copy / ".#unet.py").symlink_to("somebody@nowhere")
    assert digest_of(copy) == digest_of(package)


def test_a_folder_that_is_linked_counts_as_one_that_is_there(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "there" / "nets")
    (copy / "blocks").rename(tmp_path / "blocks")
    (copy / "blocks").symlink_to("../../blocks")
    assert digest_of(copy) == digest_of(package)


def test_a_changed_line_or_name_makes_another(package):
    before = digest_of(package)
    (package / "unet.py").write_text("depth = 5\n")
    changed = digest_of(package)
    (package / "unet.py").rename(package / "unet3d.py")
    assert len({before, changed, digest_of(package)}) == 3


def test_this_process_runs_the_whole_package():
    root = Path(__file__).parents[3]
    assert code_digest() == digest_of(root / "searcher")


def test_a_plugins_files_are_part_of_the_digest(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("DIGEST = 1")
    [mine] = load_plugins([str(plugin)], folder=tmp_path)
    with_it = code_digest([mine.source])
    assert with_it == hashlib.sha256(f"{code_digest()}\0{digest_of(plugin)}".encode()).hexdigest()
    assert code_digest() != with_it
