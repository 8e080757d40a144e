"""The studies that come with the package, as small as they can be made."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from new_database import new_database

from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.catalog import load_study, shipped_studies
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer


def small(name: str, more: Mapping[str, object] | None = None) -> StudySpec:
    """Return a shipped study with little data and a little network, and with more set."""
    data = {
        "study.trials": 1, "train.epochs": 1, "augment.crop_px": 64, "resources.cpus": 1,
        "data.synthetic_images": 12, "data.synthetic_size_px": 64, "data.samples_per_epoch": 6,
    }  # fmt: skip
    model = {
        "unet": {"model.base_channels": 2},
        "mask_rcnn": {
            "model.backbone": "efficientnet_lite0", "model.weights": "none", "model.input_scale": 1.0,
            "model.fpn_channels": 16, "model.box_layer": 32, "model.mask_layer": 16,
        },
    }  # fmt: skip
    return load_study(name, {**data, **model[load_study(name).trial_config({}).model.name], **(more or {})})


def test_the_detectors_demo_runs_on_a_cluster_and_is_tuned_there(launch_tiny):
    """All other launches of the tests are of a U-Net."""
    result, _, trials = launch_tiny(small("maskrcnn-demo", {"tuning.postprocess": True}))
    assert result.outcome == "finished"
    [trial] = [trial for trial in trials if trial.state != "WAITING"]
    assert trial.state == "COMPLETE"
    assert "tuned" in trial.notes


@pytest.mark.parametrize("name", [name for name in shipped_studies() if load_study(name).parent is None])
def test_the_first_trial_of_every_shipped_study_trains(name, tmp_path: Path, cache_dir: Path):
    """What its ledger hands out first, with its own sampler, trained in this process."""
    spec = small(name)
    store = DataRequest(None, str(cache_dir), spec.trial_config({}).data).prepare()
    with new_database(tmp_path / "s.db") as database:
        Registration(
            spec=spec, data_source="synthetic", data_fingerprint=store.fingerprint, storage_root=tmp_path
        ).register(database)
        ledger = StudyLedger(database, spec, build_sampler(spec, num_trials=0))
        ledger.enqueue(spec.enqueue)
        _, params = ledger.begin_trial(running=())
    config = spec.trial_config(params)
    with Trainer(config, spec.objective, store=store, run_dir=tmp_path / "run") as trainer:
        outcome = trainer.fit(NullReporter())
    assert (outcome.stop_reason, outcome.best_epoch, outcome.tuning_problem) == ("epochs", 1, None)
    assert (outcome.tuned is not None) == config.tuning.postprocess


@pytest.mark.parametrize("name", [name for name in shipped_studies() if load_study(name).parent is not None])
def test_a_shipped_study_with_a_parent_has_one_of_the_same_model(name):
    spec = load_study(name)
    parent = load_study(spec.parent.study)
    assert parent.trial_config({}).model.name == spec.trial_config({}).model.name
    assert parent.study.objective == spec.study.objective
