"""metrics.jsonl has every epoch exactly once."""

import errno
import json
import math

import pytest

from searcher.training.history import append_epoch, read_history, truncate_history


def epochs(path):
    return [line["epoch"] for line in read_history(path)]


def test_lines_are_appended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_epoch(path, 1, {"loss": 0.5})
    first = path.read_bytes()
    append_epoch(path, 2, {"loss": 0.25})
    assert path.read_bytes().startswith(first)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 1, "loss": 0.5},
        {"epoch": 2, "loss": 0.25},
    ]


def test_values_that_json_does_not_know_become_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_epoch(path, 1, {"a": math.nan, "b": math.inf, "c": 1.0})
    assert read_history(path) == [{"epoch": 1, "a": None, "b": None, "c": 1.0}]


def test_later_epochs_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for epoch in (1, 2, 3, 4):
        append_epoch(path, epoch, {"loss": float(epoch)})
    truncate_history(path, path, last_epoch=2)
    append_epoch(path, 3, {"loss": 30.0})
    assert epochs(path) == [1, 2, 3]
    assert read_history(path)[2]["loss"] == 30.0


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_epoch(path, 1, {"loss": 0.5})
    with path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert epochs(path) == [1]
    truncate_history(path, path, last_epoch=2)
    append_epoch(path, 2, {"loss": 0.4})
    assert epochs(path) == [1, 2]


def test_no_history_is_an_empty_one(tmp_path):
    assert read_history(tmp_path / "metrics.jsonl") == []
    truncate_history(tmp_path / "metrics.jsonl", tmp_path / "new.jsonl", last_epoch=5)
    assert (tmp_path / "new.jsonl").read_text() == ""


def test_the_history_moves_to_another_folder(tmp_path):
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    for epoch in (1, 2, 3):
        append_epoch(old, epoch, {"loss": 1 / 3})
    truncate_history(old, new, last_epoch=2)
    assert epochs(old) == [1, 2, 3]
    assert new.read_text().splitlines() == old.read_text().splitlines()[:2]


def test_a_line_is_never_added_to_one_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_epoch(path, 1, {"loss": 0.5})
    with path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    append_epoch(path, 2, {"loss": 0.4})
    assert path.read_text() == '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n'


def test_a_whole_line_that_lacks_its_newline_stays(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "loss": 0.5}')
    assert epochs(path) == [1]
    append_epoch(path, 2, {"loss": 0.4})
    assert path.read_text() == '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n'


@pytest.mark.parametrize(
    "damage", [b"\xff\x00\xfe", b"", b"7", b'{"loss": 0.1}', b'{"epoch": "x"}', b"\0" * 50]
)
def test_a_damaged_line_costs_its_own_epoch_only(tmp_path, caplog, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + damage + b'\n{"epoch": 3}\n')
    assert epochs(path) == [1, 3]
    assert "line 2 is damaged" in caplog.text
    truncate_history(path, path, last_epoch=3)
    append_epoch(path, 4, {"loss": 0.4})
    assert epochs(path) == [1, 3, 4]


def test_a_full_disk_takes_no_part_of_a_line(small_disk):
    # Twenty bytes are left of the file's page: a file system fills them before it says that the disk is full.
    path = small_disk.path / "metrics.jsonl"
    first = b'{"epoch": 1, "note": "' + b"." * (4096 - 20 - 25) + b'"}\n'
    path.write_bytes(first)
    assert len(first) == 4096 - 20
    small_disk.fill()
    with pytest.raises(OSError, match="No space left on device") as caught:
        append_epoch(path, 2, {"loss": 0.5})
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == first
    small_disk.make_room()
    append_epoch(path, 2, {"loss": 0.5})
    assert path.read_bytes() == first + b'{"epoch": 2, "loss": 0.5}\n'


def test_a_full_disk_leaves_a_history_that_is_to_be_shortened(small_disk):
    path = small_disk.path / "metrics.jsonl"
    for epoch in (1, 2, 3):
        append_epoch(path, epoch, {"loss": 0.5})
    small_disk.fill()
    with pytest.raises(OSError, match="No space left on device"):
        truncate_history(path, path, last_epoch=2)
    assert epochs(path) == [1, 2, 3]
    assert sorted(entry.name for entry in small_disk.path.iterdir()) == ["ballast", "metrics.jsonl"]
