"""Whole studies on a real Ray cluster: what the database says afterwards.

Lost workers, trials that fail and studies that are deleted are in tests/chaos.
"""

import gc
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import albumentations as A
import optuna
import pytest
from optuna_dashboard._note import get_note
from PIL import Image
from plugged import plugged_in
from ray.tune.experiment import Trial
from tiny_study import TINY, RecordingListener, tiny

from searcher.exceptions import DatabaseError, SearcherError, StudyConflictError, UserError
from searcher.ledger.database import Database
from searcher.study.layout import ARTIFACTS

ONE_WORKER = {"resources__max_concurrent": 1}
"""Starting a second takes longer than all trials together."""


def test_a_study_ends_with_its_budget_and_every_epoch_in_the_database(
    launch_tiny, tmp_path, ray_nodes, monkeypatch
):
    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG")  # the tests' own
    remembered: list[dict[str, object]] = []
    begun: list[int] = []

    def look(*_: int) -> None:
        remembered.extend(kept_by_ray_tune())
        begun.append(sum(line.startswith("start") for line in listener.lines))

    listener = RecordingListener(look)
    spec = tiny(study__trials=6, resources__pictures=3, resources__max_concurrent=0)
    result, _, trials = launch_tiny(spec, listener)
    assert begun[0] == 3 + 1, (
        "as many as there is room for, on three nodes of one CPU each, and one that waits"
    )
    assert remembered
    assert not any(remembered), "a driver of thousands of trials would grow by them"
    assert (result.outcome, result.num_done, result.budget) == ("finished", 6, 6)
    states = [trial.state for trial in trials]
    assert set(states) == {"COMPLETE", "PRUNED"}, states
    with Database.open(str(tmp_path / "s.db")) as database:
        curves = {
            t.number: t.intermediate_values
            for t in optuna.load_study(study_name="tiny", storage=database.optuna_storage).trials
        }
        assert database.study("tiny").last_launch.outcome == "finished"
        pictures = artifacts_by_trial(database, "tiny", tmp_path / "runs")
        assert "| data | `synthetic glands`: 12 images" in get_note(
            optuna.load_study(study_name="tiny", storage=database.optuna_storage)
        )
    nodes = {f"{os.uname().nodename} {node.node_id[:8]}" for node in ray_nodes.list_all_nodes()}
    for trial in trials:
        assert trial.notes["node"] in nodes
        assert list(trial.epochs) == list(range(1, trial.num_epochs + 1))
        assert {epoch: metrics["loss"] for epoch, metrics in trial.epochs.items()} == pytest.approx(
            curves[trial.number]
        )
        assert set(trial.epochs[1]) >= {"loss", "pixel_dice", "object_f1", "object_dice", "object_hausdorff"}
        assert sorted(listener.epochs).count((trial.number, 1)) == 1
        if trial.state == "COMPLETE":
            assert trial.num_epochs == 4
            assert trial.notes["stop_reason"] == "epochs"
            names = sorted(name.partition("-dice-")[0] for name in pictures.pop(trial.number))
            assert names == ["learning-curve.png", "worst-1", "worst-2", "worst-3"]
            assert trial.value == min(metrics["loss"] for metrics in trial.epochs.values())
        else:
            assert trial.num_epochs == trial.notes["pruned_epoch"] < 4
            assert trial.value == trial.epochs[trial.num_epochs]["loss"]
        folder = tmp_path / "runs" / "tiny" / f"trial-{trial.number:04d}"
        assert [path.name for path in folder.glob("*.pt*")] == ["best.pt"], (
            "an ended trial keeps its best alone"
        )
        [kept] = [checkpoint for checkpoint in trial.checkpoints.values() if not checkpoint.is_removed]
        assert hashlib.sha256((folder / "best.pt").read_bytes()).hexdigest() == kept.sha256
        assert (folder / "trial.log").stat().st_size > 0
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1, "TensorBoard's"
    assert not any(pictures.values()), "a trial that was stopped has no pictures"
    hours_end_a_study_that_can_be_gone_on_with(launch_tiny, tmp_path)


def hours_end_a_study_that_can_be_gone_on_with(launch_tiny, tmp_path):
    """The epochs of the launch before say that no trial can end within a thousandth of a second."""
    result, listener, trials = launch_tiny(tiny(study__trials=8, study__hours=1e-7))
    assert (result.outcome, result.num_done, result.budget, len(trials)) == ("finished", 6, 8, 6)
    assert result.reason is not None
    assert result.reason.startswith("study.hours=1e-07: another trial takes about 0:00:")
    assert any(line.startswith("forecast: an epoch takes ") for line in listener.lines), listener.lines
    with Database.open(str(tmp_path / "s.db")) as database:
        launch = database.study("tiny").last_launch
    assert (launch.outcome, launch.reason) == ("finished", result.reason)
    more_epochs_continue_the_best(launch_tiny, trials)


def more_epochs_continue_the_best(launch_tiny, before):
    complete = [trial for trial in before if trial.state == "COMPLETE"]
    best = min(complete, key=lambda trial: trial.value)
    more = tiny(study__trials=6, train__epochs=6)
    result, listener, trials = launch_tiny(more)
    assert (result.outcome, result.num_done, result.budget) == ("finished", 6, 6)
    assert trials[:6] == before, "what was done is as it was"
    first, *others = trials[6:]
    assert len(others) == (len(complete) - 1) // 5, "a fifth of the COMPLETE ones, rounded up"
    assert (first.notes["continues"], first.params) == (best.number, best.params)
    start = best.notes["best_epoch"]
    assert f"start 6 after {start}" in listener.lines
    assert {epoch: first.epochs[epoch] for epoch in range(1, start + 1)} == {
        epoch: best.epochs[epoch] for epoch in range(1, start + 1)
    }
    assert [*first.epochs] == [*range(1, first.num_epochs + 1)]
    again, listener, same = launch_tiny(more)
    assert (again.outcome, listener.epochs, same) == ("finished", [], trials)


def kept_by_ray_tune() -> list[dict[str, object]]:
    """Return the configurations and results that Ray Tune has of trials that are over."""
    trials = [each for each in gc.get_objects() if type(each) is Trial and each.is_finished()]
    return [kept for each in trials for kept in (each.config, each.run_metadata.last_result)]


def artifacts_by_trial(database: Database, study: str, root: Path) -> dict[int, list[str]]:
    """Return the names of each trial's artifacts, as Optuna finds them; each is a whole picture."""
    storage, found = database.optuna_storage, {}
    store = optuna.artifacts.FileSystemArtifactStore(root / ARTIFACTS)
    for trial in optuna.load_study(study_name=study, storage=storage).trials:
        metas = optuna.artifacts.get_all_artifact_meta(study_or_trial=trial, storage=storage)
        for meta in metas:
            with store.open_reader(meta.artifact_id) as file, Image.open(file) as picture:
                picture.load()
        found[trial.number] = [meta.filename for meta in metas]
    return found


PLUGGED = """
    import optuna
    from pydantic import Field

    from searcher.parts import Section
    from searcher.study.parts import register_pruner, register_sampler

    class GeneticOptions(Section):
        population_size: int = Field(default=50, ge=2, le=1000)

    register_sampler("genetic", options=GeneticOptions)(optuna.samplers.NSGAIISampler)

    class SecondOptions(Section):
        after_epochs: int = Field(default=9, ge=1, le=9)

    @register_pruner("second", options=SecondOptions)
    class Second(optuna.pruners.BasePruner):
        \"\"\"Stops every second trial that it was told of.\"\"\"

        def __init__(self, after_epochs):
            self.after_epochs = after_epochs

        def prune(self, study, trial):
            return trial.number % 2 == 1 and trial.last_step >= self.after_epochs
    """


def test_a_relaunch_goes_on_to_a_raised_budget_and_knows_the_old_curves_also_of_plugins_parts(
    launch_tiny, tmp_path
):
    """Sampler and pruner are a plug-in's, the augmentation is a pipeline's: all in one study."""
    A.save(A.Compose([A.HorizontalFlip(p=0.5), A.Blur(p=1.0)]), tmp_path / "p.yaml", data_format="yaml")
    text = (
        TINY.replace('sampler = "random"', 'sampler = "genetic"\noptions.population_size = 2')
        .replace("[pruner]", '[pruner]\nname = "second"\noptions.after_epochs = 1')
        .replace('preset = "none"', f'pipeline = "{tmp_path / "p.yaml"}"')
    )
    settings = {"train__epochs": 2, **ONE_WORKER}
    with plugged_in(tmp_path, PLUGGED, "parts.py"):
        text = f'plugins = ["{tmp_path / "parts.py"}"]\n{text}'
        _, _, first = launch_tiny(tiny(text, study__trials=2, **settings))
        assert [(trial.state, trial.num_epochs) for trial in first] == [("COMPLETE", 2), ("PRUNED", 1)]
        pipeline = json.loads((tmp_path / "runs/tiny/trial-0000/config.json").read_text())["augment"][
            "pipeline"
        ]
        assert "Blur" in pipeline
        result, listener, trials = launch_tiny(tiny(text, study__trials=3, **settings))
        assert listener.opened["num_done"] == 2
        assert result.num_done == 3
        generations = [trial.notes["sampler"]["NSGAIISampler:generation"] for trial in trials]
        assert generations == [0, 0, 1], (
            "the third is bred from the two of the launch before, one of them pruned"
        )
        assert (trials[2].state, trials[2].num_epochs) == ("COMPLETE", 2), (
            "the third that the pruner was told of"
        )
        assert len({str(sorted(trial.params.items())) for trial in trials}) == 3, "no parameters twice"
        again, listener, _ = launch_tiny(
            tiny(text, study__trials=3, **settings), remarks=["DATA: patients are unknown"]
        )
    assert (again.outcome, listener.epochs) == ("finished", [])
    assert "Z DATA: patients are unknown\n" in (tmp_path / "runs" / "tiny" / "launch.log").read_text()


def test_a_launch_that_broke_off_is_gone_on_from_to_a_raised_budget_until_the_space_is_exhausted(
    launch_tiny, tmp_path
):
    """Of two points in all, the first reaches a plateau; the driver breaks off in the second."""
    text = (
        TINY.split("[space.optimizer]")[0]
        + '[space.optimizer]\nname = { choices = ["sgd", "adamw"] }\n[optimizer]\nlr = 1e-30\n'
    ).replace("grace_epochs = 1", 'name = "none"')
    settings = {"train__epochs": 30, "train__early_stop_patience": 1, "model__norm": "none", **ONE_WORKER}

    def fail_in_the_second(number: int, epoch: int) -> None:
        if number == 1:
            raise DatabaseError("--db somewhere: could not be written: it is away")

    with pytest.raises(
        SearcherError, match=r"the search broke off: .*could not be written: it is away"
    ) as caught:
        launch_tiny(tiny(text, study__trials=2, **settings), RecordingListener(fail_in_the_second))
    assert "\n" not in str(caught.value)
    with Database.open(str(tmp_path / "s.db")) as database:
        assert "RUNNING" not in database.study("tiny").counts
        assert database.study("tiny").last_launch.outcome == "failed"
        [first, *_] = database.trials("tiny")
    assert (first.state, first.notes["stop_reason"]) == ("COMPLETE", "plateau")
    assert first.num_epochs < 30

    result, listener, trials = launch_tiny(tiny(text, study__trials=4, **settings))
    assert listener.opened["num_done"] == 1
    assert trials[0] == first, "what was done is as it was"
    assert result.outcome == "failed"
    assert "the space is exhausted" in result.problem
    trained = [trial.params["optimizer.name"] for trial in trials if trial.state == "COMPLETE"]
    assert sorted(trained) == ["adamw", "sgd"], "no parameters twice"
    reasons = [trial.notes["fail_reason"].split(" to trial")[0] for trial in trials if trial.state == "FAIL"]
    assert reasons[0].startswith("interrupted")
    assert set(reasons[1:]) == {"equal parameters"}


def test_a_launch_that_is_refused_leaves_nothing_behind(launch_tiny, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="one node must offer what a trial needs, got 64 CPUs and 0 GPUs"):
        launch_tiny(tiny(resources__cpus=64))
    full = SimpleNamespace(free=2**20)
    monkeypatch.setattr("searcher.orchestration.preflight.shutil.disk_usage", lambda _: full)
    with pytest.raises(UserError, match=r"must have room for \d+ checkpoints .* got 0\.00 GiB free"):
        launch_tiny(tiny())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs" / "tiny" / "trial-0000").mkdir(parents=True)
    with pytest.raises(
        StudyConflictError, match="must hold no trials of a study that the database does not know"
    ):
        launch_tiny(tiny())
    assert not (tmp_path / "s.db").exists()


def test_an_address_without_a_cluster_is_said_in_one_line(launch_tiny):
    with pytest.raises(UserError, match=r"--address 127\.0\.0\.1:1: must be a running Ray cluster"):
        launch_tiny(tiny(), address="127.0.0.1:1")
