"""Files that a person asked for."""

import os
import threading

import pytest

from searcher.api.writing import check_writable, write_text
from searcher.exceptions import UserError


def test_a_pipe_is_written_into_and_stays_one(tmp_path):
    """As `/dev/null`, which root's `--json /dev/null` replaced by a file."""
    pipe, said = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: said.append(pipe.read_text()))
    reader.start()
    check_writable("--json", pipe)
    write_text("--json", pipe, "{}\n")
    reader.join()
    assert said == ["{}\n"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_file_is_replaced_and_a_folder_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("old")
    write_text("--json", tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    with pytest.raises(UserError, match="could not be written"):
        write_text("--json", tmp_path, "new")
