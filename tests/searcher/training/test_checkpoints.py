"""Checkpoints are whole or they are the previous ones; what is not a checkpoint is refused in one line."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import pickle
import resource
import stat
from pathlib import Path

import pytest
import torch

from searcher import atomic_files
from searcher.exceptions import CheckpointError
from searcher.study.config import TrialConfig
from searcher.training.checkpoints import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    publish_checkpoint,
    save_checkpoint,
)
from searcher.training.randomness import RandomState

CONFIG = TrialConfig()


def checkpoint(*, epoch: int = 3, num_weights: int = 10, ema: bool = True) -> Checkpoint:
    weights = {"w": torch.arange(num_weights, dtype=torch.float32)}
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(4)
    optimizer.step()
    return Checkpoint(
        config=CONFIG.to_dict(),
        config_digest=CONFIG.digest(),
        data_fingerprint="f" * 64,
        objective="object_dice",
        epoch=epoch,
        next_batch=0,
        step=12,
        value=0.75,
        metrics={"object_dice": 0.75, "object_hausdorff": float("inf")},
        progress={"best_value": 0.8, "best_epoch": 2, "num_bad_epochs": 1},
        model=weights,
        ema={"weights": {"w": -weights["w"]}, "num_updates": 12} if ema else None,
        optimizer=optimizer.state_dict(),
        schedule={"plateau_scale": 0.5},
        random=RandomState(0, torch.device("cpu")).state_dict(),
    )


def plain(value: object) -> object:
    """Return a nested value with its tensors as lists, to be compared with ==."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def test_what_is_written_is_read_again(tmp_path):
    written = checkpoint()
    save_checkpoint(written, tmp_path / "last.pt")
    read, _ = load_checkpoint(tmp_path / "last.pt", config_digest=CONFIG.digest())
    for field in dataclasses.fields(Checkpoint):
        assert plain(getattr(read, field.name)) == plain(getattr(written, field.name)), field.name
    assert read.best_epoch == 2


def test_the_file_is_described_by_its_bytes(tmp_path):
    file = save_checkpoint(checkpoint(), tmp_path / "last.pt")
    content = (tmp_path / "last.pt").read_bytes()
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.num_bytes == len(content)
    assert (file.path, file.epoch, file.value) == (tmp_path / "last.pt", 3, 0.75)
    _, read = load_checkpoint(tmp_path / "last.pt", sha256=file.sha256)
    assert read == file


def test_it_opens_without_unpickling_anything_but_values(tmp_path):
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert content["format"] == FORMAT
    assert TrialConfig.model_validate(content["config"]).digest() == CONFIG.digest()


def test_the_validated_weights_are_the_average_where_there_is_one():
    assert checkpoint(ema=True).weights()["w"][3] == -3
    assert checkpoint(ema=False).weights()["w"][3] == 3


def test_nothing_is_left_beside_it(tmp_path):
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_temporary_file_of_a_killed_process_is_in_nobodys_way(tmp_path):
    (tmp_path / "last.pt.tmp").write_bytes(b"half a checkpoint" * 100_000)
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    load_checkpoint(tmp_path / "last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_temporary_file_is_never_written_through(tmp_path):
    # Killed between link and rename, `publish_checkpoint` leaves a second name of a checkpoint that is needed.
    best = save_checkpoint(checkpoint(epoch=3), tmp_path / "best.pt")
    os.link(tmp_path / "best.pt", tmp_path / "last.pt.tmp")
    save_checkpoint(checkpoint(epoch=4), tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "best.pt", sha256=best.sha256)[0].epoch == 3
    assert load_checkpoint(tmp_path / "last.pt")[0].epoch == 4


@contextlib.contextmanager
def largest_file(num_bytes: int):
    """Make the system refuse to write files larger than this, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1000, 500_000])
def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path, room):
    path = tmp_path / "last.pt"
    save_checkpoint(checkpoint(epoch=3), path)
    before = path.read_bytes()
    with largest_file(room), pytest.raises(CheckpointError) as caught:
        save_checkpoint(checkpoint(epoch=4, num_weights=1_000_000), path)  # 4 MB
    assert str(caught.value).startswith(f"{path}: the checkpoint of epoch 4 could not be written")
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert load_checkpoint(path)[0].epoch == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("leave_bytes", [0, 4096, 3 * 2**18])
def test_a_full_disk_keeps_the_previous_checkpoint(small_disk, leave_bytes):
    path = small_disk.path / "last.pt"
    save_checkpoint(checkpoint(epoch=3), path)
    before = path.read_bytes()
    small_disk.fill(leave_bytes=leave_bytes)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save_checkpoint(checkpoint(epoch=4, num_weights=200_000), path)  # 1.6 MB
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in small_disk.path.iterdir()) == ["ballast", "last.pt"]
    small_disk.make_room()
    save_checkpoint(checkpoint(epoch=4, num_weights=200_000), path)
    assert load_checkpoint(path)[0].epoch == 4


def test_a_full_disk_takes_a_second_name_of_a_checkpoint(small_disk):
    file = save_checkpoint(checkpoint(epoch=3), small_disk.path / "last.pt")
    small_disk.fill()
    publish_checkpoint(file, small_disk.path / "best.pt")
    assert load_checkpoint(small_disk.path / "best.pt", sha256=file.sha256)[0].epoch == 3


def test_a_full_disk_without_hard_links_keeps_the_previous_best(small_disk, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic_files.os, "link", refuse)
    file = save_checkpoint(checkpoint(epoch=3), small_disk.path / "last.pt")
    best = publish_checkpoint(file, small_disk.path / "best.pt")
    file = save_checkpoint(checkpoint(epoch=4), small_disk.path / "last.pt")
    small_disk.fill()
    with pytest.raises(CheckpointError, match="No space left on device"):
        publish_checkpoint(file, small_disk.path / "best.pt")
    assert load_checkpoint(small_disk.path / "best.pt", sha256=best.sha256)[0].epoch == 3
    assert sorted(entry.name for entry in small_disk.path.iterdir()) == ["ballast", "best.pt", "last.pt"]


def test_a_missing_folder_is_a_failed_write(tmp_path):
    with pytest.raises(CheckpointError, match="No such file or directory"):
        save_checkpoint(checkpoint(), tmp_path / "gone" / "last.pt")


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    # The order that survives a power cut: fsync of the file, rename, fsync of the folder.
    calls = []
    fsync, replace = os.fsync, Path.replace
    kind = {True: "folder", False: "file"}

    def record_fsync(descriptor):
        calls.append(("fsync", kind[stat.S_ISDIR(os.fstat(descriptor).st_mode)]))
        fsync(descriptor)

    def record_replace(path, target):
        calls.append(("replace", target.name))
        return replace(path, target)

    monkeypatch.setattr(atomic_files.os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    assert calls == [("fsync", "file"), ("replace", "last.pt"), ("fsync", "folder")]


def test_a_published_checkpoint_stays_when_the_first_name_moves_on(tmp_path):
    last, best = tmp_path / "last.pt", tmp_path / "best.pt"
    third = save_checkpoint(checkpoint(epoch=3), last)
    published = publish_checkpoint(third, best)
    assert (published.path, published.sha256) == (best, third.sha256)
    save_checkpoint(checkpoint(epoch=4), last)
    assert load_checkpoint(best)[0].epoch == 3
    assert load_checkpoint(last)[0].epoch == 4
    publish_checkpoint(published, best)  # onto itself
    publish_checkpoint(publish_checkpoint(published, last), best)  # onto another name of the same file
    assert load_checkpoint(best)[0].epoch == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_a_file_system_without_hard_links_gets_a_copy(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    file = save_checkpoint(checkpoint(), tmp_path / "last.pt")
    monkeypatch.setattr(atomic_files.os, "link", refuse)
    published = publish_checkpoint(file, tmp_path / "best.pt")
    load_checkpoint(tmp_path / "best.pt", sha256=published.sha256)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def refusal(path: Path, **expected: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **expected)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_missing_checkpoint_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "last.pt")
    assert "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, part):
    path = tmp_path / "last.pt"
    num_bytes = save_checkpoint(checkpoint(), path).num_bytes
    os.truncate(path, int(part * num_bytes))
    assert f"got {int(part * num_bytes)} bytes" in refusal(path)


def test_a_changed_byte_is_seen_by_the_digest(tmp_path):
    path = tmp_path / "last.pt"
    file = save_checkpoint(checkpoint(num_weights=100_000), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"sha256 must be {file.sha256}" in refusal(path, sha256=file.sha256)


def test_a_changed_byte_of_a_weight_is_seen_without_a_digest(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(checkpoint(num_weights=100_000), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["epoch"] == 3  # torch does not notice
    assert "got changed bytes in its record" in refusal(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    refusal(path)
    torch.save({"format": FORMAT, "model": Bomb()}, path)
    refusal(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [{"w": torch.zeros(1)}, [1, 2], torch.zeros(3)])
def test_a_foreign_file_of_torch_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    assert "must be a checkpoint of searcher" in refusal(tmp_path / "last.pt")


def test_text_is_refused(tmp_path):
    (tmp_path / "last.pt").write_text("epoch,loss\n1,0.7\n")
    assert "must be a whole checkpoint" in refusal(tmp_path / "last.pt")


def test_another_format_is_refused_with_both_named(tmp_path):
    torch.save({"format": "searcher-checkpoint-99"}, tmp_path / "last.pt")
    message = refusal(tmp_path / "last.pt")
    assert FORMAT in message
    assert "searcher-checkpoint-99" in message


def test_a_checkpoint_with_parts_missing_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(checkpoint(), path)
    content = torch.load(path, weights_only=True)
    del content["optimizer"], content["random"]
    torch.save(content, path)
    assert "lacks ['optimizer', 'random']" in refusal(path)


def test_another_configuration_is_refused_with_both_digests(tmp_path):
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    other = TrialConfig.model_validate({"train": {"epochs": 99}}).digest()
    message = refusal(tmp_path / "last.pt", config_digest=other)
    assert other[:12] in message
    assert CONFIG.digest()[:12] in message


def test_a_key_that_a_newer_version_brought_takes_no_checkpoint_away(tmp_path):
    """As a version wrote it that knew no tuning, no warm start: its configuration, and so its digest, lack the keys."""
    old = CONFIG.to_dict()
    del old["tuning"], old["warm_start"], old["model"]["input_scale"]
    written = dataclasses.replace(checkpoint(), config=old, config_digest="0" * 64)
    save_checkpoint(written, tmp_path / "last.pt")
    read, _ = load_checkpoint(tmp_path / "last.pt", config_digest=CONFIG.digest())
    assert read.config == old
    other = TrialConfig.model_validate({"tuning": {"postprocess": True}}).digest()
    assert other[:12] in refusal(tmp_path / "last.pt", config_digest=other)
