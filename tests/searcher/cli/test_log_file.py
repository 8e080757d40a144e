"""Reading logs: tails, growth, replacement, split characters."""

import pytest

from searcher.api import log_file
from searcher.api.log_file import LogFile


@pytest.mark.parametrize(
    ("content", "num_lines", "shown"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 2, "a\nb\n"),
        ("a\nb\n", 9, "a\nb\n"),
        ("\n\n\n", 2, "\n\n"),
        ("", 3, ""),
        ("a\n" + "ä" * 50 + "\n", 1, "ä" * 50 + "\n"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 16])
def test_the_last_lines(tmp_path, monkeypatch, content, num_lines, shown, block_bytes):
    monkeypatch.setattr(log_file, "_BLOCK_BYTES", block_bytes)
    path = tmp_path / "log"
    path.write_text(content, encoding="utf-8")
    with LogFile(path, last_lines=num_lines) as log:
        assert log.read() == shown
        assert log.read() == ""


def test_a_character_comes_when_it_is_whole(tmp_path):
    path = tmp_path / "log"
    rocket = "🚀".encode()
    path.write_bytes(b"go " + rocket[:3])
    with LogFile(path) as log, path.open("ab", buffering=0) as writer:
        assert log.read() == "go "
        writer.write(rocket[3:] + b"!\n")
        assert log.read() == "🚀!\n"
        writer.write(b"\xff\xc3(\n")
        assert log.read() == "\\xff\\xc3(\n"


def test_a_file_that_was_cut_short_is_begun_anew(tmp_path):
    path = tmp_path / "log"
    path.write_text("a long first line\n")
    with LogFile(path) as log:
        log.read()
        path.write_text("new\n")
        assert log.read() == "new\n"


def test_of_a_file_that_was_rotated_nothing_is_missed(tmp_path):
    path = tmp_path / "log"
    path.write_text("1\n")
    with LogFile(path) as log, path.open("a") as writer:
        assert log.read() == "1\n"
        path.rename(tmp_path / "log.1")
        print("2", file=writer, flush=True)
        assert log.read() == "2\n"
        print("3", file=writer, flush=True)
        path.write_text("4\n")
        assert log.read() == "3\n4\n"
