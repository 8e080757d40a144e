"""Finished trials in a real MLflow: its client, on a tracking store that is an SQLite file."""

import os
import shutil
import sys
import time

import pytest
from new_database import new_database
from stored_study import StoredStudy

from searcher.orchestration.mlflow_mirror import MlflowMirror


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with a COMPLETE trial that has a picture, a PRUNED and a FAILed one."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    with new_database(tmp_path / "s.db") as database:
        study = StoredStudy(database, tmp_path)
        complete, pruned, failed = study.begin(), study.begin(), study.begin()
        study.write(complete, "worst-1.jpg", b"picture")
        for epoch, value in ((1, 0.5), (2, 0.75)):
            study.ledger.report(complete, epoch, {"object_dice": value, "loss": 1 - value, "epoch_s": 2.0})
        study.ledger.report(pruned, 1, {"object_dice": 0.25, "loss": float("nan")})
        study.ledger.complete(complete, 0.75, best_epoch=2, stop_reason="epochs")
        study.ledger.prune(pruned, 1)
        study.ledger.fail(failed, "no luck", retry=False)
        yield study


def copy(study: StoredStudy) -> list[str]:
    """Copy as a launch does, and return what was said."""
    said: list[str] = []
    mirror = MlflowMirror.start(study.database, "s", study.root, said.append)
    if mirror is not None:
        mirror.close()
    return said


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A tracking store with nothing in it; MLflow needs seconds to make one."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.chdir(folder)
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client(empty_store, tmp_path, monkeypatch):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    from mlflow import MlflowClient

    return MlflowClient()


def runs_of(client) -> dict[str, object]:
    experiment = client.get_experiment_by_name("s")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def runs_by_status(client) -> list[tuple[str, str]]:
    experiment = client.get_experiment_by_name("s")
    runs = client.search_runs([experiment.experiment_id])
    return sorted((run.info.run_name, run.info.status) for run in runs)


def test_without_its_address_nothing_is_copied(study):
    assert MlflowMirror.start(study.database, "s", study.root, print) is None


def test_an_address_without_mlflow_is_said(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # cannot be imported
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret-pw@127.0.0.1:9")
    [said] = copy(study)
    assert "mlflow is not installed" in said
    assert "s3cret" not in said


def test_every_ended_trial_becomes_one_run_however_often_it_is_copied(study, client):
    for _ in range(2):
        assert copy(study) == []
    runs = runs_of(client)
    assert {name: run.info.status for name, run in runs.items()} == {
        "s-trial-0": "FINISHED",
        "s-trial-1": "KILLED",
        "s-trial-2": "FAILED",
    }
    run = runs["s-trial-0"]
    history = client.get_metric_history(run.info.run_id, "object_dice")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]
    assert history[1].timestamp - history[0].timestamp == 2000
    assert run.data.params == {name: str(value) for name, value in study.ledger.trial(0).params.items()}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "pictures")] == [
        "pictures/worst-1.jpg"
    ]
    assert runs["s-trial-2"].data.tags["searcher.fail_reason"] == "no luck"
    assert "loss" not in runs["s-trial-1"].data.metrics  # it was not finite


def test_a_run_that_a_kill_left_in_the_middle_is_made_anew(study, client):
    copy(study)
    whole = runs_of(client)["s-trial-0"]
    client.delete_run(whole.info.run_id)
    half = client.create_run(
        whole.info.experiment_id, run_name="half", tags={"searcher.trial": whole.data.tags["searcher.trial"]}
    )
    assert copy(study) == []
    runs = runs_of(client)
    assert sorted(runs) == ["s-trial-0", "s-trial-1", "s-trial-2"]
    assert half.info.run_id not in [run.info.run_id for run in runs.values()]


def test_a_trial_that_cannot_be_copied_holds_up_no_other_and_is_one_run_in_the_end(study, client):
    picture = study.folder(0) / "worst-1.jpg"
    picture.rename(study.folder(0) / "away")
    picture.symlink_to(study.folder(0) / "none")
    said: list[str] = []
    mirror = MlflowMirror.start(study.database, "s", study.root, said.append)
    mirror.wake()
    deadline = time.monotonic() + 60
    while not said and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs_by_status(client) == [
        ("s-trial-0", "RUNNING"), ("s-trial-1", "KILLED"), ("s-trial-2", "FAILED")
    ]  # fmt: skip
    (study.folder(0) / "away").replace(picture)
    mirror.close()
    assert len(said) == 1
    assert runs_by_status(client) == [
        ("s-trial-0", "FINISHED"), ("s-trial-1", "KILLED"), ("s-trial-2", "FAILED")
    ]  # fmt: skip


def test_a_server_that_is_away_is_said_once_and_without_its_password(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret-pw@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    mirror = MlflowMirror.start(study.database, "s", study.root, said.append)
    for _ in range(3):
        mirror.wake()
    mirror.close()
    assert len(said) == 1
    assert said[0].startswith("not copied to MLflow (")
    assert "s3cret" not in said[0]
