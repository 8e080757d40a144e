"""The shipped studies, and finding studies by name or path."""

from importlib.resources import files

import pytest

from searcher.exceptions import StudyFileError, UnknownStudyError
from searcher.study.catalog import load_study, shipped_studies


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_valid_opens_with_its_command_and_bears_its_name(name):
    spec = load_study(name)
    opening = spec.text.split("[study]")[0]
    assert spec.name == name
    assert f"searcher launch --study {name}" in opening
    assert "Cost:" in opening
    assert files("searcher.studies").joinpath(f"{name}.toml").is_file()
    if spec.parent is None or spec.parent.how == "finetune":  # else it begins with its parent's best
        assert spec.enqueue, "a shipped study begins with a known-good point"
    for point in spec.enqueue:
        active = {p.name for p in spec.space.parameters if p.active(point)}
        assert set(point) == active, "a known-good point leaves nothing open"
        spec.trial_config(point)


def test_unet_broad_begins_with_the_posters_own_best_setting():
    poster = load_study("unet-broad").trial_config(load_study("unet-broad").enqueue[0])
    assert (poster.optimizer.name, poster.optimizer.lr, poster.optimizer.weight_decay) == ("sgd", 0.1, 1e-5)
    assert (poster.train.batch_size, poster.model.base_channels, poster.model.depth) == (6, 64, 4)
    assert (poster.model.norm, poster.model.loss, poster.augment.preset) == ("none", "bce", "poster")


def test_a_study_that_does_not_exist_gets_a_suggestion():
    with pytest.raises(UnknownStudyError, match="did you mean unet-broad"):
        load_study("unet-brod")
    with pytest.raises(UnknownStudyError, match=r"no\.toml: the file must exist"):
        load_study("no.toml")


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyFileError, match="must be a study in UTF-8, got UTF-16"):
        load_study(str(path))


def test_maskrcnn_broad_begins_with_the_posters_setting():
    spec = load_study("maskrcnn-broad")
    poster = spec.trial_config(spec.enqueue[0])
    assert (poster.model.name, poster.model.version, poster.model.weights) == ("mask_rcnn", "v1", "coco")
    assert (poster.model.mask_layer, poster.model.input_scale) == (256, 0.0)
    assert (poster.optimizer.name, poster.optimizer.lr, poster.optimizer.momentum) == ("sgd", 5e-3, 0.9)
    assert (poster.optimizer.weight_decay, poster.train.batch_size) == (5e-4, 2)
    assert (poster.train.grad_clip_norm, poster.model.detections_per_image) == (0.0, 100)
    assert (poster.model.rpn_nms_threshold, poster.model.box_nms_threshold) == (0.7, 0.5)
