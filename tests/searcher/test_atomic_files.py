"""Files that are replaced as a whole."""

import ctypes
from pathlib import Path

import pytest

from searcher.atomic_files import HashingWriter, exchange, write_atomically


def test_of_two_writers_of_one_file_the_later_wins_whole(tmp_path: Path):
    """The first one's rename would else put the second one's half-written file in place."""
    path = tmp_path / "evaluation.json"

    def second(writer: HashingWriter) -> None:
        writer.write(b"second")

    def first(writer: HashingWriter) -> None:
        writer.write(b"first")
        begun = tmp_path / "evaluation.json.tmp"
        begun.unlink()
        begun.write_bytes(b"sec")  # what another process has written so far

    with pytest.raises(OSError, match="another process writes this file"):
        write_atomically(path, first)
    assert not path.exists()
    assert (tmp_path / "evaluation.json.tmp").read_bytes() == b"sec"
    write_atomically(path, second)
    assert path.read_bytes() == b"second"


@pytest.mark.parametrize("has_renameat2", [True, False])
def test_two_folders_swap_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_renameat2: bool):
    if not has_renameat2:  # as another system's C library
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    exchange(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "content").read_text() == "new"
    assert (tmp_path / "new" / "content").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "new", tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
