"""Text files that people touched: marks, ends of lines, encodings, and what is no file."""

import os
import socket
import threading

import pytest

from searcher import text_files
from searcher.exceptions import TextFileError
from searcher.text_files import read_json, read_text


@pytest.mark.parametrize(
    "content",
    [b"a\nb\n", b"\xef\xbb\xbfa\nb\n", b"a\r\nb\r\n", b"a\rb\r", b"\xef\xbb\xbfa\r\nb\r\n"],
)
def test_marks_and_ends_of_lines_make_no_difference(tmp_path, content):
    path = tmp_path / "t"
    path.write_bytes(content)
    assert read_text(path) == "a\nb\n"
    assert read_text(path, keep_line_ends=True) == content.decode("utf-8-sig")


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("[a]".encode("utf-16"), "got UTF-16"),
        ("[a]".encode("utf-32"), "got UTF-32"),
        ("[a]".encode("utf-16-le"), "got zero bytes"),
        ("a\nb\nGr\u00f6\u00dfe".encode("latin-1"), "got the byte 0xf6 in line 3"),
    ],
)
def test_another_encoding_is_named(tmp_path, content, got):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(TextFileError, match=got):
        read_text(path)


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("socket")
    for path, got in (
        (tmp_path / "pipe", "got a pipe"),
        (tmp_path / "folder", "got a folder"),
        ("/dev/zero", "got a device"),
        (tmp_path / "no", "the file must exist"),
        (tmp_path / "socket", "must be a readable file"),
        (tmp_path / "folder" / ("x" * 300), "File name too long"),
        ("a\0b", "must be a readable file"),
    ):
        with pytest.raises(TextFileError, match=got):
            read_text(path)


def test_a_pipe_is_read_where_one_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("secret\n"))
    writer.start()
    assert read_text(path, may_be_pipe=True) == "secret\n"
    writer.join()
    monkeypatch.setattr(text_files, "_PIPE_WAIT_S", 0.05)
    with pytest.raises(TextFileError, match="nothing came out of"):
        read_text(path, may_be_pipe=True)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "t"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TextFileError, match="of at most 16777216 bytes, got 1073741824"):
        read_text(path)
    with pytest.raises(TextFileError, match="of at most 10 bytes"):  # its size is not what it says
        read_text("/proc/self/status", max_bytes=10)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{", "in line 1"),
        ("", "in line 1"),
        ("[" * 100_000 + "]" * 100_000, "too deep"),
        ("9" * 5000, "thousands of digits"),
    ],
)
def test_what_is_no_json(tmp_path, text, got):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(TextFileError, match=got):
        read_json(path)


def test_json_with_a_mark(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(path) == {"a": 1}
