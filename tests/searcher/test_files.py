"""Files that are replaced as a whole."""

from pathlib import Path

import pytest

from searcher.files import HashingWriter, write_atomically


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
