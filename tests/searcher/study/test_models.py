"""`model.name` decides which keys there are under `model`, in files, spaces, points and overrides."""

import json

import pytest

from searcher.exceptions import StudyFileError
from searcher.models.settings import SETTINGS
from searcher.study.config import TrialConfig
from searcher.study.config_keys import config_fields
from searcher.study.reader import parse_study
from searcher.study.spec import default_identity

MINIMAL = '[study]\nname = "s"\n'
MASK_RCNN = MINIMAL + '[model]\nname = "mask_rcnn"\n'


def problems(text: str, overrides: dict | None = None) -> list[str]:
    with pytest.raises(StudyFileError) as caught:
        parse_study(text, source="s.toml", overrides=overrides)
    return caught.value.problems


def test_a_configuration_without_a_models_name_is_of_a_unet():
    for values in ({}, {"model": {}}, {"model": {"depth": 3}}):
        assert TrialConfig.model_validate(values).model.name == "unet"
    assert TrialConfig().model == TrialConfig.model_validate({"model": {"name": "unet"}}).model
    assert TrialConfig.model_validate_json('{"model": {"depth": 3}}').model.depth == 3


@pytest.mark.parametrize("name", SETTINGS.names())
def test_a_configuration_comes_back_from_its_plain_values_as_the_same_model(name):
    config = TrialConfig.model_validate({"model": {"name": name}})
    again = TrialConfig.model_validate(json.loads(json.dumps(config.to_dict())))
    assert type(again.model) is SETTINGS[name]
    assert again.digest() == config.digest()


def test_a_mask_rcnn_study_takes_its_models_keys():
    spec = parse_study(
        MASK_RCNN
        + 'version = "v2"\n[space.model]\nanchor_min_px = {low = 8.0, high = 64.0, log = true}\n'
        + 'weights = {choices = ["none", "coco"]}\n'
        + 'trainable_layers = {low = 0, high = 5, when = {"model.weights" = ["coco"]}}\n'
        + '[[enqueue]]\nmodel.anchor_min_px = 16.0\nmodel.weights = "none"',
        source="s.toml",
    )
    config = spec.trial_config({"model.anchor_min_px": 20.0, "model.weights": "none"})
    assert (config.model.name, config.model.version, config.model.anchor_min_px) == ("mask_rcnn", "v2", 20.0)
    assert [p.name for p in spec.space.parameters] == [
        "model.anchor_min_px",
        "model.weights",
        "model.trainable_layers",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL + '[model]\nname = "vnet"\ndepth = 3',
            "s.toml: model.name: must be one of 'unet', 'mask_rcnn', got 'vnet'",
        ),
        (
            MASK_RCNN + "fpn_chanels = 3",
            "s.toml: model.fpn_chanels: unknown key, got 3; did you mean fpn_channels?",
        ),
        (
            MASK_RCNN + "depth = 3",
            "s.toml: model.depth: unknown key, got 3; depth is a key of model.name = 'unet'",
        ),
        (
            MINIMAL + "[model]\nanchor_octaves = 3.0",
            "s.toml: model.anchor_octaves: unknown key, got 3.0; anchor_octaves is a key of model.name = 'mask_rcnn'",
        ),
        (
            MASK_RCNN + "fpn_channels = 2",
            "s.toml: model.fpn_channels: must be greater than or equal to 16, got 2",
        ),
        (
            MASK_RCNN + 'weights = "coc"',
            "s.toml: model.weights: must be 'none', 'imagenet', 'coco' or a file ending in .pth",
        ),
        (
            MASK_RCNN + 'weights = "coco"\nfpn_channels = 64',
            "s.toml: model: weights='coco' needs backbone='resnet50' fpn_channels=256 box_layer=1024, got",
        ),
        (
            MASK_RCNN + "[space.model]\nbase_channels = {low = 4, high = 8}",
            "s.toml: space.model.base_channels: unknown parameter; base_channels is a key of model.name = 'unet'",
        ),
        (
            MASK_RCNN + "[space.model]\nanchor_min = {low = 4.0, high = 8.0}",
            "s.toml: space.model.anchor_min: unknown parameter; did you mean model.anchor_min_px?",
        ),
        (
            MASK_RCNN + '[space.model]\nversion = {choices = ["v1", "v3"]}',
            "s.toml: space.model.version: must be 'v1' or 'v2', got 'v3'",
        ),
        (
            MASK_RCNN + '[space.model]\nweights = {choices = ["coco", "cocoa"]}',
            "s.toml: space.model.weights: must be 'none', 'imagenet', 'coco' or a file ending in .pth",
        ),
        (
            MINIMAL + '[space.model]\nname = {choices = ["unet", "mask_rcnn"]}',
            "s.toml: space.model.name: must not be searched: every model has parameters of its own; write a study "
            "for each and compare their best trials",
        ),
        (
            MASK_RCNN + "[[enqueue]]\nmodel.depth = 3",
            "s.toml: enqueue[0].model.depth: unknown parameter; depth is a key of model.name = 'unet'",
        ),
    ],
)
def test_the_keys_of_another_model_are_refused(text, message):
    [line] = problems(text)
    assert message in line


def test_a_wrong_name_does_not_make_every_other_line_wrong():
    text = (
        MINIMAL
        + '[model]\nname = "mask-rcnn"\nversion = "v2"\n[space.optimizer]\nlr = {low = 1e-4, high = 1e-2}\n'
        + 'weight_decay = {low = 1e-6, high = 1e-2, when = {"model.weights" = ["coco"]}}\n'
        + "[space.model]\nfpn_channels = {low = 32, high = 64}"
    )
    assert problems(text) == ["s.toml: model.name: must be one of 'unet', 'mask_rcnn', got 'mask-rcnn'"]


def test_the_command_line_may_choose_the_model():
    spec = parse_study(MINIMAL, source="s.toml", overrides={"model.name": "mask_rcnn", "model.version": "v2"})
    assert spec.trial_config({}).model.version == "v2"
    assert problems(MINIMAL, {"model.name": "mask_rcnn", "model.depth": 3}) == [
        "--set model.depth: unknown key, got 3; depth is a key of model.name = 'unet'"
    ]


def test_a_condition_on_a_key_of_the_model_is_settled():
    text = MASK_RCNN + '[space.optimizer]\nlr = {low = 0.1, high = 1.0, when = {"model.version" = ["v1"]}}'
    assert len(parse_study(text, source="s.toml").space) == 1
    assert len(parse_study(text, source="s.toml", overrides={"model.version": "v2"}).space) == 0


def test_the_identity_of_a_study_holds_its_own_models_keys():
    unet, mask_rcnn = (parse_study(text, source="s.toml") for text in (MINIMAL, MASK_RCNN))
    assert "model.depth" in unet.identity()
    assert "model.depth" not in mask_rcnn.identity()
    assert mask_rcnn.identity()["model.anchor_min_px"] == 0.0
    for spec in (unet, mask_rcnn):
        defaults = default_identity(spec.identity()["model.name"])
        assert spec.identity() == {"study.objective": "object_dice", **defaults}


def test_a_study_may_begin_warm_and_search_what_stays_frozen():
    text = (
        MINIMAL
        + f'[warm_start]\nsha256 = "{"0a" * 32}"\n[space.warm_start]\nfreeze = {{choices = ["none", "encoder"]}}'
    )
    config = parse_study(text, source="s.toml").trial_config({"warm_start.freeze": "encoder"})
    assert config.warm_start.model_dump() == {"sha256": "0a" * 32, "optimizer": "reset", "freeze": "encoder"}
    without = parse_study(MINIMAL, source="s.toml", overrides={"warm_start.freeze": "encoder"})
    assert without.trial_config({}).warm_start.sha256 == ""  # filled in later; the trainer refuses it if not
    for digest in ("0a", "0A" * 32, "0g" * 32):
        [line] = problems(MINIMAL, {"warm_start.sha256": digest})
        assert line.startswith("--set warm_start.sha256: must match pattern")


def test_every_key_has_a_description():
    for name in SETTINGS.names():
        assert all(description for _, description in config_fields(name).values())
