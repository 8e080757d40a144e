"""A study whose files are kept in an object store, and whose data come from one, while a worker is killed."""

import contextlib
import hashlib
import shutil
from pathlib import Path

import psutil
import pytest
from chaos_nodes import processes_that_train
from tiny_study import RecordingListener, tiny

from searcher.cli.main import main
from searcher.dashboard.artifacts import StudyArtifacts
from searcher.data_pipeline.datasets import SyntheticGlands, write_release
from searcher.ledger.database import Database
from searcher.storage.mirror import local_root
from searcher.storage.object_store import ObjectStore, below
from searcher.study.layout import ARTIFACTS


@pytest.fixture
def root(bucket_uri: str, cache_dir: Path) -> Path:
    """This machine's mirror of the object store."""
    return local_root(bucket_uri)


def checkpoints_in(store: ObjectStore) -> dict[str, str]:
    """Return the SHA-256 of each checkpoint's content, by name; the name says the same."""
    names = [name for name in store.list() if name.endswith(".pt")]
    digests = {name: hashlib.sha256(store.read(name) or b"").hexdigest() for name in names}
    assert all(Path(name).stem == digest for name, digest in digests.items())
    return digests


def kill_its_worker() -> None:
    """Kill the worker; a process that it has just started, or one that an earlier trial left, has the same name."""
    workers = processes_that_train(psutil.Process())
    assert workers
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


@pytest.mark.fault(
    "kill -9 of a worker whose files are in an object store",
    holds="its retry resumes from the store, which the machine's own copies are not needed for; every verb works",
)
def test_a_study_with_data_and_files_in_an_object_store(
    launch_tiny, root, bucket_uri, cache_dir, tmp_path, monkeypatch, capsys
):
    """A worker is killed; all that its retry knows comes from the store. Then the winner is looked at and used."""
    monkeypatch.chdir(tmp_path)
    data_uri = below(bucket_uri, "GlaS")
    write_release(SyntheticGlands(num_images=8, size_px=64, seed=0, num_test_images=2), tmp_path / "GlaS")
    data = ObjectStore(data_uri)
    for path in (tmp_path / "GlaS").iterdir():
        data.upload(path, path.name)
    shutil.rmtree(tmp_path / "GlaS")
    killed: list[int] = []

    def kill(number: int, epoch: int) -> None:
        if epoch == 2 and not killed:
            killed.append(number)
            kill_its_worker()
            for folder in ("tiny", "scratch"):  # as on another node
                shutil.rmtree(root / folder, ignore_errors=True)
                shutil.rmtree(cache_dir / folder, ignore_errors=True)

    spec = tiny(
        study__trials=2,
        train__epochs=3,
        pruner__name="none",
        resources__max_concurrent=1,
        resources__pictures=1,
        resources__keep_best=1,
    )
    result, listener, trials = launch_tiny(
        spec, RecordingListener(kill), storage_root=root, data_folder=data_uri
    )
    assert (result.outcome, result.num_done) == ("finished", 2), listener.lines
    lost, retry = trials[0], next(trial for trial in trials if trial.notes.get("retry_of") == 0)
    assert lost.state == "FAIL"
    assert f"start {retry.number} after 2" in listener.lines
    assert list(retry.epochs) == [1, 2, 3]
    assert retry.epochs[1] == lost.epochs[1]
    done = [trial for trial in trials if trial.state == "COMPLETE"]
    best = min(done, key=lambda trial: trial.value)
    store = ObjectStore(bucket_uri)
    there = checkpoints_in(store)
    record = best.checkpoints["best"]
    assert there[record.uri] == record.sha256
    assert [name for name in there if name.startswith("tiny/trial-") and "0000" not in name] == [
        record.uri
    ], "of trials that are done, the best checkpoint of the best alone"
    folder = f"tiny/trial-{best.number:04d}"
    names = {Path(name).name.partition(".")[0] for name in store.list(folder)}
    assert names >= {"config", "metrics", "trial", "events", "learning-curve"}
    assert (store.read(f"{folder}/metrics.jsonl") or b"").count(b"\n") == 3
    assert len(store.list(ARTIFACTS)) == 2 * len(done)
    assert b"finished" in (store.read("tiny/launch.log") or b"")
    assert not [name for name in store.list() if name.startswith(".probe")]
    assert not list((cache_dir / "scratch").rglob("*.pt"))
    with Database.open("s.db") as database:
        row = database.study_row("tiny")
        assert (row.storage_root, row.data_source) == (bucket_uri, data_uri)

    shutil.rmtree(root)  # another machine
    database = ["--db", "s.db"]
    with Database.open("s.db") as opened:
        [name, *_] = [name.rpartition("/")[2] for name in store.list(ARTIFACTS)]
        with StudyArtifacts(opened).open_reader(name) as picture:
            assert picture.read(4) in (b"\x89PNG", b"\xff\xd8\xff\xe0")
    assert main(["best", "--study", "tiny", *database]) == 0
    assert f"checkpoint: {below(bucket_uri, record.uri)}" in capsys.readouterr().out
    assert main(["export", "--study", "tiny", "--to", "bundle", *database]) == 0
    assert main(["evaluate", "--study", "tiny", "--data", data_uri, "--splits", "testA", *database]) == 0
    assert main(["logs", "--study", "tiny", "--trial", str(best.number), *database]) == 0
    assert "epoch 3 of 3" in capsys.readouterr().out
    assert main(["logs", "--study", "tiny", "--follow", *database]) == 2
    assert "--follow: must have a log in a folder" in capsys.readouterr().err

    store.write("tiny/trial-0000/0.pt", b"left by a worker that was killed")
    assert main(["gc", "--study", "tiny", "--dry-run", *database]) == 0
    assert "would remove tiny/trial-0000/0.pt" in capsys.readouterr().out
    assert main(["gc", "--study", "tiny", *database]) == 0
    kept = checkpoints_in(store).keys()
    assert record.uri in kept, "an export refers to it, and it is the best"
    assert "tiny/trial-0000/0.pt" not in kept
    assert main(["doctor", *database]) == 0, capsys.readouterr().out
    store.write(record.uri, b"damaged")
    shutil.rmtree(root)
    assert main(["export", "--study", "tiny", "--to", "again", *database]) == 2
    assert f"must be the checkpoint with sha256 {record.sha256[:12]}" in capsys.readouterr().err
    store.remove(record.uri)
    assert main(["doctor", *database]) == 1
    assert f"{record.uri}" in capsys.readouterr().out
