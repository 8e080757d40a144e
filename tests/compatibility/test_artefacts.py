"""This version goes on with what an older one left behind: every verb takes it, and every number is the same."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.bundle.load import load_bundle
from searcher.cli.main import main
from searcher.data_pipeline import open_dataset
from searcher.data_pipeline.store import Store, prepare_store
from searcher.ledger import takeover
from searcher.ledger.checkpoint_files import find_checkpoint
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.catalog import load_study
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer


@pytest.fixture
def said(recorded: Path, capsys: pytest.CaptureFixture[str]):
    """A function that runs a verb and returns the JSON that it prints; the database is of this version then."""
    with Database.open("searcher.db", create=True):
        pass

    def run(*words: str) -> Any:
        capsys.readouterr()
        assert main([*words]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def then(recorded: Path, name: str) -> Any:
    """Return what the older version printed."""
    return json.loads((recorded / "said" / name).read_text())


def known(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values[key] for key in ("number", "state", "value", "params", "epochs"))


def test_the_tables_say_of_every_trial_what_they_said_before(recorded, said):
    for name, file in (("recorded", "trials.json"), ("killed", "killed.json")):
        now = said("trials", "--study", name, "--json")
        assert [known(trial) for trial in now] == [known(trial) for trial in then(recorded, file)]
    assert known(said("best", "--study", "recorded", "--json")) == known(then(recorded, "best.json"))
    states = {study["name"]: study["num_done"] for study in said("status", "--json")}
    assert states == {"recorded": 2, "killed": 0}


def test_logs_doctor_gc_and_refine_take_the_database(recorded, said, capsys):
    for trial in ([], ["--trial", "0"]):
        assert main(["logs", "--study", "recorded", *trial]) == 0
    assert main(["doctor", "--study", "recorded"]) == 0
    assert main(["doctor", "--fix"]) == 0, "the killed launch is fixed"
    assert main(["doctor"]) == 0
    assert said("gc", "--study", "recorded", "--keep", "1", "--json")
    assert main(["refine", "recorded", "--json"]) in (0, 2), "two trials may be too few"


def test_the_data_keep_their_fingerprint_and_the_store_its_pixels(recorded, tmp_path):
    source = open_dataset(recorded / "data")
    [folder] = [path for path in (recorded / "cache").iterdir() if path.is_dir()]
    assert folder.name == source.fingerprint()
    old, new = Store.open(folder), prepare_store(source, tmp_path / "anew")
    assert list(old.samples) == list(new.samples)
    for index in range(len(new)):
        assert np.array_equal(old.image(index), new.image(index))
        assert np.array_equal(old.labels(index), new.labels(index))


def test_checkpoint_study_and_bundle_reach_the_figures_that_they_reached(recorded, said):
    """Another CPU or torch may round otherwise, so figures are compared to a part in a million."""
    expected = then(recorded, "evaluate.json")
    best = then(recorded, "best.json")
    checkpoint = str(recorded / "runs" / "recorded" / f"trial-{best['number']:04d}")
    for what in ([checkpoint], ["--study", "recorded"], ["bundle"]):
        assert main(["evaluate", *what, "--data", "data", "--splits", "train", "--json", "now.json"]) == 0
        now = json.loads((recorded / "now.json").read_text())
        figures = expected["splits"]["train"]["pooled"]  # later versions have more of them
        found = now["splits"]["train"]["pooled"]
        assert {name: found[name] for name in figures} == pytest.approx(figures, rel=1e-6)
        for key in ("postprocess", "tta"):
            assert now[key] == expected[key]


def test_the_bundle_predicts_the_same_label_maps(recorded):
    assert main(["predict", "bundle", "data/images", "--to", "now", "--outputs", "labels,csv,geojson"]) == 0
    for path in sorted(recorded.glob("predictions/*")):
        if path.suffix in (".tif", ".tiff"):
            assert np.array_equal(tifffile.imread(path), tifffile.imread(recorded / "now" / path.name))
        elif path.suffix == ".png":
            assert np.array_equal(
                np.array(Image.open(path)), np.array(Image.open(recorded / "now" / path.name))
            )
        elif path.suffix == ".geojson":  # by now, objects have ids
            now = re.sub(r'"id": "[0-9a-f-]{36}", ', "", (recorded / "now" / path.name).read_text())
            assert path.read_text() == now
        elif path.name != "predictions.csv":  # which has times
            assert path.read_text() == (recorded / "now" / path.name).read_text()
    assert {path.name for path in recorded.glob("now/*")} == {
        path.name for path in recorded.glob("predictions/*")
    }


def test_a_folder_of_predictions_is_gone_on_with(recorded, capsys):
    before = (recorded / "predictions" / "predictions.csv").read_text().splitlines()
    (recorded / "data" / "images" / "3.bmp").rename(recorded / "data" / "images" / "4.bmp")
    words = ["predict", "bundle", "data/images", "--to", "predictions", "--outputs", "labels,csv,geojson"]
    assert main(words) == 2, "nothing is replaced unasked"
    assert main([*words, "--skip-existing"]) == 0
    after = (recorded / "predictions" / "predictions.csv").read_text().splitlines()
    assert after[: len(before)] == before
    assert [line.partition(",")[0] for line in after[len(before) :]] == ["4.bmp"]
    assert main([*words, "--force"]) == 0


def test_a_trial_and_a_bundle_are_exported_anew(recorded, said):
    before = load_bundle(recorded / "bundle").manifest
    assert main(["export", "--study", "recorded", "--to", "anew", "--data", "data"]) == 0
    after = load_bundle(recorded / "anew").manifest
    assert after.members[0].model_copy(update={"config": {}}) == before.members[0].model_copy(
        update={"config": {}}
    )
    for key in ("postprocess", "tta", "tile_px", "tile_overlap_px", "pixel_size_um"):
        assert getattr(after, key) == getattr(before, key)


def relaunched(recorded: Path, name: str) -> tuple[Registration, Store]:
    """Return what the same launch command would begin with."""
    with Database.open("searcher.db", create=True) as database:
        row = database.study_row(name)
    spec = load_study(str(recorded / "study.toml"), row.overrides)
    store = prepare_store(open_dataset(recorded / "data"), recorded / "cache")
    study = Registration(
        spec=spec,
        data_source=row.data_source,
        data_fingerprint=store.fingerprint,
        storage_root=recorded / "runs",
    )
    return study, store


def test_the_killed_study_is_gone_on_with_from_its_checkpoint(recorded, tmp_path, monkeypatch):
    """What a driver does with the command of before, and a worker with the job, without Ray."""
    monkeypatch.setattr(
        takeover, "WATCH_S", 0.6
    )  # that the driver of another machine is gone, its silence tells
    study, store = relaunched(recorded, "killed")
    with Database.open("searcher.db", create=True) as database:
        study.check(database)
        with Lease.acquire(database, "killed"):
            study.begin_launch(database)
            ledger = StudyLedger(database, study.spec, build_sampler(study.spec, num_trials=0))
            assert 0 in ledger.reconcile("its driver was killed")
            number, params = ledger.begin_trial(running=())
            resume = ledger.resume_point(number, recorded / "runs")
        assert (resume.trial, resume.damages) == (0, ())
        checkpoint = resume.checkpoint
        assert checkpoint is not None
        assert checkpoint.epoch == max(database.trials("killed")[0].epochs)
        file = find_checkpoint(recorded / "runs", checkpoint)
    assert file is not None
    assert file.name == "previous.pt", "the database does not know of the epoch after"
    config = study.spec.trial_config(params)
    with Trainer(
        config,
        study.spec.objective,
        store=store,
        run_dir=tmp_path / "retry",
        device="cpu",
        resume_from=file,
        resume_sha256=checkpoint.sha256,
    ) as trainer:
        trainer.step(NullReporter())
        assert trainer.epoch == checkpoint.epoch + 1


@pytest.mark.parametrize("optimizer", ["reset", "keep"])
def test_an_old_checkpoint_is_what_a_new_trial_begins_from(recorded, tmp_path, optimizer):
    _, store = relaunched(recorded, "recorded")
    parent = recorded / "runs" / "recorded" / "trial-0000" / "best.pt"
    checkpoint, file = load_checkpoint(parent)
    values = {**checkpoint.config, "warm_start": {"sha256": file.sha256, "optimizer": optimizer}}
    with Trainer(
        TrialConfig.model_validate(values),
        Objective("object_dice"),
        store=store,
        run_dir=tmp_path / "child",
        device="cpu",
        warm_start=parent,
    ) as trainer:
        assert trainer.transfer is not None
        trainer.step(NullReporter())
        assert trainer.epoch == 1
