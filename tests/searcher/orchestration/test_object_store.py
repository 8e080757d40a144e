"""A study whose files are kept in an object store, and whose data come from one."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_study import tiny

from searcher.cli.main import main
from searcher.exceptions import NodeError, StorageError
from searcher.ledger.checkpoint_files import damage_of, find_checkpoint
from searcher.orchestration.cluster.node_probe import check_storage
from searcher.orchestration.trials.messages import TrialJob
from searcher.orchestration.trials.trial_workspace import trial_workspace
from searcher.storage.mirror import local_root
from searcher.storage.object_store import ObjectStore
from searcher.training.checkpoints import CheckpointFile
from searcher.training.dataset import DataRequest
from searcher.training.failures import diagnose


@pytest.fixture
def root(bucket_uri: str, cache_dir: Path) -> Path:
    """This machine's mirror of the object store."""
    return local_root(bucket_uri)


@pytest.fixture
def job(bucket_uri, cache_dir) -> TrialJob:
    return TrialJob(
        number=3,
        config={},
        objective="loss",
        data=DataRequest(None, str(cache_dir), tiny().trial_config({}).data),
        data_fingerprint="f" * 64,
        storage_root=bucket_uri,
        run_dir="tiny/trial-0003",
        storage_mark="the launch's",
    )


def write(folder: Path, name: str, content: bytes, epoch: int) -> CheckpointFile:
    (folder / f"{name}.new").write_bytes(content)
    (folder / f"{name}.new").replace(folder / name)
    return CheckpointFile(folder / name, hashlib.sha256(content).hexdigest(), len(content), epoch, 0.5)


def test_a_report_finds_its_checkpoint_in_the_store_and_the_one_before_too(job, bucket_uri):
    workspace, store = trial_workspace(job), ObjectStore(bucket_uri)
    workspace.run_dir.mkdir(parents=True)
    (workspace.run_dir / "trial.log").write_text("begun\n")
    epochs = [b"one", b"two", b"three", b"four"]
    for epoch, content in enumerate(epochs, start=1):
        last = write(workspace.run_dir, "last.pt", content, epoch)
        if epoch > 1:
            write(workspace.run_dir, "previous.pt", epochs[epoch - 2], epoch - 1)
        [record] = workspace.kept({"last": last})
        assert record.uri == f"tiny/trial-0003/{hashlib.sha256(content).hexdigest()}.pt"
        contents = {store.read(name) for name in store.list(job.run_dir) if name.endswith(".pt")}
        assert contents == set(epochs[max(0, epoch - 3) : epoch]), (
            "the driver may know of the one before alone"
        )
    (workspace.run_dir / "trial.log").write_text("begun\nended\n")
    scratch = workspace.run_dir.parent
    workspace.close()
    workspace.close()
    assert store.read("tiny/trial-0003/trial.log") == b"begun\nended\n"
    assert not scratch.exists()


def test_a_record_and_what_is_in_the_store(job, root, bucket_uri):
    workspace, store = trial_workspace(job), ObjectStore(bucket_uri)
    workspace.run_dir.mkdir(parents=True)
    [record] = workspace.kept({"last": write(workspace.run_dir, "last.pt", b"three", 3)})
    workspace.close()
    assert damage_of(root, record) is None
    assert (root / record.uri).read_bytes() == b"three", "fetched"
    (root / record.uri).write_bytes(b"THREE")
    assert find_checkpoint(root, record) == root / record.uri, "damaged here, fetched again"
    shutil.rmtree(root / "tiny")
    for content, damage in (
        (b"THREE", "its bytes are others"),
        (b"", "0 bytes, recorded 5"),
        (None, "missing"),
    ):
        store.remove(record.uri)
        if content is not None:
            store.write(record.uri, content)
        assert damage_of(root, record) == damage
        assert not (root / record.uri).exists()


def test_no_report_goes_out_while_its_checkpoint_is_not_in_the_store(job, s3_server):
    workspace = trial_workspace(replace(job, storage_root=s3_server.uri("removed/x")))
    workspace.run_dir.mkdir(parents=True)
    last = write(workspace.run_dir, "last.pt", b"one", 1)
    with pytest.raises(StorageError, match="no bucket of that name") as gone:
        workspace.kept({"last": last})
    failure = diagnose(gone.value)
    assert failure.cause == "node", "another node may reach it: the trial is tried again"
    assert "\n" not in failure.reason
    workspace.close()


def test_a_node_without_the_driver_s_store_is_named(job, bucket_uri, monkeypatch):
    monkeypatch.setattr("searcher.orchestration.cluster.node_probe._MOUNTED_WITHIN_S", 0.0)
    with pytest.raises(
        NodeError, match=r"must be the same on every node, got one without this launch's storage\.mark"
    ):
        check_storage(job)
    ObjectStore(bucket_uri).write("tiny/storage.mark", b"the launch's")
    check_storage(job)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--storage", "{nosuch}"], "got no bucket of that name"),
        (["--storage", "s3://AKIA:hush-hush@glands/x"], "--storage s3: must not hold a key"),
        (["--data", "s3://AKIA:hush-hush@glands/x"], "--data s3: must not hold a key"),
        (["--data", "{nosuch}"], "must hold a data set"),
    ],
)
def test_what_is_refused_at_launch_is_one_line(
    words, says, s3_server, tmp_path, cache_dir, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = [word.format(nosuch=s3_server.uri("nosuch/x")) for word in words]
    assert main(["launch", "--study", "unet-demo", "--db", "s.db", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert "hush-hush" not in line
    assert not Path("s.db").exists()
    assert not Path("runs").exists()


def test_a_single_trial_is_kept_in_a_folder(bucket_uri, capsys):
    assert main(["train", "--study", "unet-demo", "--storage", bucket_uri]) == 2
    assert "--storage: must be a folder for a single trial" in capsys.readouterr().err
