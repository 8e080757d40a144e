"""The studies that come with the package, on a real Ray cluster, as small as they can be made."""

import pytest

from searcher.study.catalog import load_study, shipped_studies


@pytest.mark.parametrize("name", [name for name in shipped_studies() if load_study(name).parent is None])
def test_every_shipped_study_runs(name, launch_tiny):
    small = {
        "study.trials": 1, "train.epochs": 1, "augment.crop_px": 64, "resources.cpus": 1,
        "data.synthetic_images": 12, "data.synthetic_size_px": 64, "data.samples_per_epoch": 6,
    }  # fmt: skip
    small_model = {
        "unet": {"model.base_channels": 2},
        "mask_rcnn": {
            "model.backbone": "resnet18", "model.weights": "none", "model.input_scale": 1.0,
            "model.fpn_channels": 16, "model.box_layer": 32, "model.mask_layer": 16,
        },
    }  # fmt: skip
    model = load_study(name).trial_config({}).model.name
    result, _, trials = launch_tiny(load_study(name, {**small, **small_model[model]}))
    assert result.outcome == "finished"
    [trial] = [trial for trial in trials if trial.state != "WAITING"]
    assert trial.state == "COMPLETE"
    assert ("tuned" in trial.notes) == load_study(name).trial_config({}).tuning.postprocess


@pytest.mark.parametrize("name", [name for name in shipped_studies() if load_study(name).parent is not None])
def test_a_shipped_study_with_a_parent_has_one_of_the_same_model(name):
    spec = load_study(name)
    parent = load_study(spec.parent.study)
    assert parent.trial_config({}).model.name == spec.trial_config({}).model.name
    assert parent.study.objective == spec.study.objective
