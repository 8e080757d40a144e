"""A model, head, loss and encoder of a plug-in: validated, searched and built like ours."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from plugged import plugged_in

from searcher.exceptions import StudyFileError
from searcher.models.parts import loss_names
from searcher.models.registry import build_model, register
from searcher.models.settings import MaskRCNNSettings, ModelSettings, PostprocessSettings
from searcher.models.values import TensorBatch
from searcher.plugins import PluginError
from searcher.study.config import TrialConfig
from searcher.study.config_keys import config_fields, field_bounds, models_with
from searcher.study.reader import parse_study
from searcher.study.spec import default_identity
from searcher.testing import check_head, check_loss
from searcher.training.object_sizes import size_remarks

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "attention_unet"
PARTS = """
    import attention_unet
    from searcher.models.blocks import double_conv
    from searcher.models.encoders import Encoder, EncoderParts, register_encoder
    from searcher.models.heads import register_head
    from searcher.models.heads.distance import DistanceHead

    @register_head("middle")
    class Middle(DistanceHead):
        border_keys = ("distance_cap_px",)

    def slim(*, base_channels, depth, norm, channels):
        widths = [base_channels] * (depth + 1)
        *levels, last = (double_conv(a, b, norm) for a, b in zip([channels, *widths], widths))
        return EncoderParts(levels, last, widths)

    register_encoder("slim", Encoder(build=slim, max_depth=3))
    """
ATTENTION = '[study]\nname = "s"\n[model]\nname = "attention_unet"\n'


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example's package, and a file with further parts; both are forgotten afterwards."""
    sys.path.insert(0, str(EXAMPLE / "src"))
    try:
        with plugged_in(tmp_path_factory.mktemp("plugin"), PARTS):
            yield
    finally:
        sys.path.remove(str(EXAMPLE / "src"))
        for name in [each for each in sys.modules if each.partition(".")[0] == "attention_unet"]:
            del sys.modules[name]


def problems(text: str) -> list[str]:
    with pytest.raises(StudyFileError) as caught:
        parse_study(text, source="s.toml")
    return caught.value.problems


def test_a_study_takes_its_keys_and_all_that_is_wrong_is_said_at_once():
    spec = parse_study(ATTENTION + "gate_fraction = 0.25", source="s.toml")
    assert spec.trial_config({}).model.gate_fraction == 0.25
    assert spec.identity()["model.gate_fraction"] == 0.25
    assert problems(ATTENTION + "gate_fractoin = 0.25\ndepth = 99\nloss = 'bce+bce'\nhead = 'none'") == [
        "s.toml: model.depth: must be less than or equal to 6, got 99 (Number of poolings.)",
        "s.toml: model.head: must be 'binary', 'contour', 'distance' or 'middle', got 'none' (What the network "
        "predicts for a pixel.)",
        "s.toml: model.loss: must be losses joined by '+', each once, of bce, dice, ce, focal, tversky, got 'bce+bce' "
        "(Losses of the head's classes, joined by `+`.)",
        "s.toml: model.gate_fractoin: unknown key, got 0.25; did you mean gate_fraction?",
    ]
    assert problems(ATTENTION + "weights = 'imagenet'") == [
        "s.toml: model.weights: unknown key, got 'imagenet'; weights is a key of model.name = 'unet'"
    ]


def test_a_study_searches_its_keys_within_their_bounds():
    space = (
        "[space.model]\ngate_fraction = {low = 0.1, high = 1.0}\nloss = {choices = ['bce', 'dice+tversky']}\n"
    )
    spec = parse_study(ATTENTION + space, source="s.toml")
    config = spec.trial_config({"model.gate_fraction": 0.5, "model.loss": "dice+tversky"})
    assert (config.model.gate_fraction, config.model.loss) == (0.5, "dice+tversky")
    assert field_bounds("attention_unet", "model.gate_fraction") == (5e-324, 1.0)
    assert models_with("gate_fraction") == ["attention_unet"]
    assert "model.gate_fraction" in config_fields("attention_unet")
    assert default_identity("attention_unet")["model.gate_fraction"] == 0.5
    [problem] = problems(ATTENTION + "[space.model]\ngate_fraction = {low = 0.1, high = 2.0}\n")
    assert problem.startswith("s.toml: space.model.gate_fraction: must be less than or equal to 1, got 2.0")


def test_a_configuration_comes_back_from_its_plain_values():
    config = TrialConfig.model_validate({"model": {"name": "attention_unet", "channels": 5}})
    again = TrialConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert type(again.model).__name__ == "AttentionUNetSettings"
    assert again.digest() == config.digest()


@pytest.mark.parametrize(
    "model",
    [
        {"name": "attention_unet", "base_channels": 4, "depth": 2, "head": "middle", "loss": "bce+tversky"},
        {"base_channels": 4, "depth": 2, "encoder": "slim", "head": "middle", "loss": "tversky"},
    ],
    ids=["its own network", "in our U-Net"],
)
def test_its_parts_train_and_predict(model):
    config = TrialConfig.model_validate({"model": model})
    torch.manual_seed(0)
    net = build_model(config.model, PostprocessSettings())
    batch = TensorBatch(
        torch.randint(0, 255, (2, 24, 24, 3), dtype=torch.uint8), torch.ones((2, 24, 24), dtype=torch.int32)
    )
    losses = net.training_step(batch)
    assert sorted(losses) == sorted([*model["loss"].split("+"), "distance"])
    torch.stack(list(losses.values())).sum().backward()
    assert net.eval().predict(batch.images)[0].labels.shape == (24, 24)
    assert config.model.channels == 3


def test_its_parts_do_what_training_relies_on():
    check_head("middle")
    check_loss("tversky")


def test_an_encoder_says_how_deep_it_goes():
    text = '[study]\nname = "s"\n[model]\nencoder = "slim"\ndepth = {}\n'
    assert parse_study(text.format(3), source="s.toml").trial_config({}).model.encoder == "slim"
    assert problems(text.format(4)) == [
        "s.toml: model: encoder='slim' needs a depth of at most 3, got depth=4"
    ]


def test_a_heads_widths_are_compared_with_the_objects():
    class Facts:
        areas, extents = (100,) * 10, ((10, 10),) * 10

    config = TrialConfig.model_validate({"model": {"head": "middle", "distance_cap_px": 9}})
    [remark] = size_remarks(config, [Facts()])
    assert remark.startswith("model.distance_cap_px must leave objects an inside, got 9 px")


def test_eight_views_need_maps():
    tuning = {"tta": True, "postprocess": True}
    assert TrialConfig.model_validate({"model": {"name": "attention_unet"}, "tuning": tuning}).tuning.tta
    with pytest.raises(ValueError, match=r"needs a model with maps .* model.name='mask_rcnn'"):
        TrialConfig(model=MaskRCNNSettings(), tuning=tuning)


def test_losses_are_known_terms_each_once():
    assert loss_names("bce+tversky") == ["bce", "tversky"]
    for wrong in ("", "+", "bce+", "bce+bce", "tversky+none"):
        assert loss_names(wrong) == []


class NoName(ModelSettings):
    pass


class NoDefault(ModelSettings):
    name: str = "no_default"
    width: int


class Lax(ModelSettings, extra="ignore"):
    name: str = "lax"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (NoName, "must have the field name"),
        (NoDefault, "every setting must have a default, got none for width"),
        (Lax, "must refuse unknown keys"),
        (int, "must derive from ModelSettings"),
    ],
)
def test_settings_that_studies_cannot_rely_on_are_refused(settings, rule):
    name = (
        settings.model_fields["name"].default if "name" in getattr(settings, "model_fields", {}) else "other"
    )
    with pytest.raises(PluginError, match=rule):
        register(name, settings)


def test_the_examples_gates_weigh_skips_by_0_to_1():
    """The example's gates weigh skips by 0 to 1: of a skip of ones nothing exceeds 1."""
    from attention_unet.network import AttentionGate

    torch.manual_seed(0)
    gate = AttentionGate(4, 4, 2)
    weighed = gate(torch.ones(1, 4, 8, 8), torch.randn(1, 4, 8, 8))
    assert np.all((weighed.detach().numpy() > 0) & (weighed.detach().numpy() < 1))
