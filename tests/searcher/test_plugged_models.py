"""A model, head, loss and encoder of a plug-in: validated, searched and built like ours."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from plugged import plugged_in
from pydantic import Field

from searcher.exceptions import StudyFileError
from searcher.inference.measuring import Seen
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import tune_postprocess
from searcher.models.backbones import backbone_of
from searcher.models.losses import register_loss
from searcher.models.parts import ENCODERS, loss_names
from searcher.models.registry import build_model, register
from searcher.models.settings import (
    MaskRCNNSettings,
    ModelSettings,
    PartOptions,
    PartsSettings,
    PostprocessSettings,
)
from searcher.models.unet import UNet
from searcher.models.values import TensorBatch
from searcher.plugins import PluginError, parts_named
from searcher.study.config import TrialConfig
from searcher.study.config_keys import config_fields, field_bounds, models_with
from searcher.study.reader import parse_study
from searcher.study.spec import default_identity, flat
from searcher.study.writer import write_study
from searcher.testing import check_head, check_loss, check_model
from searcher.training.object_sizes import size_remarks

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "attention_unet"
PARTS = """
    import attention_unet
    import torch
    from pydantic import Field
    from torch import nn

    from searcher.models.backbones import backbone_of, register_backbone
    from searcher.models.blocks import double_conv
    from searcher.models.encoders import Encoder, EncoderParts, register_encoder
    from searcher.models.heads import register_head
    from searcher.models.heads.distance import DistanceHead
    from searcher.parts import Section

    class MiddleOptions(Section):
        power: float = Field(default=1.0, gt=0.0, le=4.0)
        \"\"\"Exponent of the distance.\"\"\"

    @register_head("middle", options=MiddleOptions)
    class Middle(DistanceHead):
        border_keys = ("distance_cap_px",)

        def __init__(self, options, *, power):
            super().__init__(options)
            self.power = power

        def targets(self, labels):
            known = super().targets(labels)
            return known._replace(distance=known.distance**self.power)

    class SlimOptions(Section):
        kernel_px: int = Field(default=3, ge=1, le=7)
        \"\"\"Side of the first convolution.\"\"\"

    def slim(*, base_channels, depth, norm, channels, kernel_px):
        widths = [base_channels] * (depth + 1)
        first, *levels, last = (double_conv(a, b, norm) for a, b in zip([channels, *widths], widths))
        first[0] = nn.Conv2d(channels, base_channels, kernel_px, padding="same")
        return EncoderParts([first, *levels], last, widths)

    register_encoder("slim", Encoder(build=slim, options=SlimOptions, max_depth=3))

    def halved(*, depth, channels, kernel_px, **_):
        def level(before, after):
            return nn.Sequential(nn.Conv2d(before, after, kernel_px, stride=2, padding=kernel_px // 2), nn.ReLU())
        *levels, last = (level(a, b) for a, b in zip([channels, *[8] * depth], [8] * depth))
        return EncoderParts([nn.Identity(), *levels], last, [channels, *[8] * depth])

    HALVED = register_encoder("halved", Encoder(build=halved, options=SlimOptions, max_depth=5, halves=True))
    register_backbone("halved", backbone_of(HALVED))
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


TVERSKY = '[study]\nname = "s"\n[model]\nloss = "bce+tversky"\nencoder = "slim"\ndepth = 2\nhead = "middle"\n'


def test_parts_bring_settings_which_are_filled_in_hashed_and_part_of_the_identity():
    spec = parse_study(
        TVERSKY + "options.tversky.alpha = 0.25\n[model.options.slim]\nkernel_px = 5", source="s"
    )
    config = spec.trial_config({})
    assert config.model.options == {
        "middle": {"power": 1.0},
        "slim": {"kernel_px": 5},
        "tversky": {"alpha": 0.25, "beta": 0.7},
    }
    assert spec.identity()["model.options.tversky.alpha"] == 0.25
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    others = [TrialConfig.model_validate({"model": {"loss": "tversky", **each}}) for each in (
        {}, {"options": {"tversky": {"alpha": 0.3, "beta": 0.7}}}, {"options": {"tversky": {"alpha": 0.4}}},
    )]  # fmt: skip
    digests = [each.digest() for each in others]
    assert digests[0] == digests[1] != digests[2]
    assert hash(others[0].model) == hash(others[1].model) != hash(others[2].model)
    assert "options" not in TrialConfig().to_dict()["model"], "digests of ours are what they were"
    again = parse_study(write_study(spec), source="again")
    assert again.fixed == spec.fixed


def test_what_is_wrong_with_the_settings_of_parts_is_said_at_once():
    body = 'options = { tversky = { alpha = 2.0, alhpa = 0.1 }, tverski = { alpha = 1.0 }, slim = { kernel_px = "5" } }'
    assert problems(TVERSKY + body + "\nbase_channels = 0") == [
        "s.toml: model.base_channels: must be greater than or equal to 1, got 0 (Channels of the first level; every "
        "level below doubles them. With a backbone, of the decoder only.)",
        "s.toml: model.options.slim.kernel_px: must be an integer, got '5' (Side of the first convolution.)",
        "s.toml: model.options.tversky.alpha: must be less than or equal to 1, got 2.0 (Weight of a pixel that is too "
        "many.)",
        "s.toml: model.options.tversky.alhpa: unknown key, got 0.1; did you mean alpha?",
        "s.toml: model.options.tverski: must be settings of halved, middle, slim, tversky, got {'alpha': 1.0}",
    ]


def test_settings_of_a_part_that_nothing_names_are_refused_and_not_ignored():
    plain = '[study]\nname = "s"\n[model]\noptions.tversky.alpha = 0.25\n'
    assert problems(plain) == [
        "s.toml: model.options.tversky: must be of a part that the study names, got settings of 'tversky', which "
        "model.loss does not name; name it, or remove them"
    ]
    searched = plain + "[space.model]\nloss = {choices = ['bce', 'tversky']}\n"
    configs = [
        parse_study(searched, source="s").trial_config({"model.loss": loss}) for loss in ("bce", "tversky")
    ]
    assert [each.model.options for each in configs] == [{}, {"tversky": {"alpha": 0.25, "beta": 0.7}}]


def test_settings_of_parts_are_searched_where_their_part_is():
    space = (
        '[space.model]\nloss = {choices = ["bce", "tversky", "ce+tversky"]}\n[space.model.options.tversky]\n'
    )
    study = '[study]\nname = "s"\n' + space
    when = 'when = {"model.loss" = ["tversky", "ce+tversky"]}'
    spec = parse_study(f"{study}alpha = {{low = 0.1, high = 0.9, {when}}}\n", source="s")
    known = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [spec.space.suggest(known.ask()) for _ in range(12)]
    assert {"model.options.tversky.alpha" in each for each in drawn} == {True, False}
    for params in drawn:
        own = spec.trial_config(params).model.options.get("tversky", {})
        assert own.get("alpha") == params.get("model.options.tversky.alpha")
    assert field_bounds("unet", "model.options.tversky.alpha") == (0.0, 1.0)
    assert config_fields("unet")["model.options.slim.kernel_px"] == (int, "Side of the first convolution.")
    assert problems(study + "alpha = {low = 0.1, high = 0.9}\n") == [
        "s.toml: space.model.options.tversky.alpha: must be searched only where model.loss has it, got 'bce'; add "
        'when = { "model.loss" = ["tversky", "ce+tversky"] }'
    ]
    [problem] = problems(f"{study}alpha = {{low = 0.1, high = 1.9, {when}}}\n")
    assert problem.startswith(
        "s.toml: space.model.options.tversky.alpha: must be less than or equal to 1, got 1.9"
    )


def test_settings_of_parts_arrive_in_them():
    options = {"tversky": {"alpha": 1.0, "beta": 0.0}, "middle": {"power": 2.0}, "slim": {"kernel_px": 5}}
    model = {
        "loss": "tversky",
        "encoder": "slim",
        "head": "middle",
        "depth": 1,
        "base_channels": 2,
        "options": options,
    }
    net = build_model(TrialConfig.model_validate({"model": model}).model, PostprocessSettings())
    assert net.encoder[0][0].kernel_size == (5, 5)
    assert net.head.power == 2.0
    logits, labels = torch.full((1, 2, 4, 4), 0.0), torch.zeros((1, 4, 4), dtype=torch.int32)
    labels[:, :2] = 1
    # Half of everywhere: TP = 4, FP = 4, FN = 4; 1 - (4 + 1) / (4 + 1.0 * 4 + 0.0 * 4 + 1).
    assert net.head.losses(logits, labels)["tversky"].item() == pytest.approx(1 - 5 / 9)


def test_a_detector_takes_a_plugins_backbone_with_its_settings():
    small = {**MaskRCNNSettings.small, "name": "mask_rcnn", "backbone": "halved"}
    config = TrialConfig.model_validate({"model": {**small, "options": {"halved": {"kernel_px": 5}}}})
    assert parts_named(flat(config.to_dict())) == {"model.backbone=halved": "mine.py"}
    net = build_model(config.model, PostprocessSettings())
    assert net.backbone.body["level1"][0].kernel_size == (5, 5)
    check_model("mask_rcnn", learns=False, backbone="halved")
    frozen = build_model(config.model.model_copy(update={"trainable_layers": 2}), PostprocessSettings())
    assert all(p.requires_grad for p in frozen.backbone.parameters()), "without weights all are trained"
    for wrong, rule in (
        ({"backbone": "slim"}, "Input should be 'resnet50', 'resnet18', 'efficientnet_lite0' or 'halved'"),
        (
            {"weights": "imagenet"},
            "weights must be 'none' for backbone='halved', which has none, got 'imagenet'",
        ),
        ({"options": {"tversky": {"alpha": 0.1}}}, "must be settings of halved"),
    ):
        with pytest.raises(ValueError, match=rule):
            MaskRCNNSettings(**{**small, **wrong})
    with pytest.raises(
        PluginError, match="must be an encoder with halves=True and a max_depth of at least 5, got"
    ):
        backbone_of(ENCODERS["slim"])


def test_tuning_tries_what_a_model_says_in_place_of_the_usual_values():
    class Own(UNet):
        tuning_candidates = {"threshold": (0.25,)}  # noqa: RUF012

    predictor = Predictor([Own(base_channels=2, depth=1)], device=torch.device("cpu"))
    seen = [Seen("a", "", np.full((1, 8, 8), 0.4, np.float32), np.ones((8, 8), np.int32), 0.0)]
    tried: list[float] = []
    tune_postprocess(
        predictor, seen, "object_f1", on_measured=lambda: tried.append(predictor.postprocess.threshold)
    )
    assert {*tried} == {0.5, 0.25}
    assert predictor.postprocess.threshold == 0.25


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


class TooEarly(PartsSettings):
    name: str = "too_early"
    options: PartOptions = Field(default={}, validate_default=True)
    loss: str = "bce"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (NoName, "must have the field name"),
        (NoDefault, "every setting must have a default, got none for width"),
        (Lax, "must refuse unknown keys"),
        (int, "must derive from ModelSettings"),
        (TooEarly, "must have the field options: .* behind those that name parts"),
    ],
)
def test_settings_that_studies_cannot_rely_on_are_refused(settings, rule):
    name = (
        settings.model_fields["name"].default if "name" in getattr(settings, "model_fields", {}) else "other"
    )
    with pytest.raises(PluginError, match=rule):
        register(name, settings)


def test_a_network_that_cannot_take_its_parts_settings_and_a_name_that_joins_are_refused():
    class Fine(PartsSettings):
        name: str = "fine"
        loss: str = "bce"
        options: PartOptions = Field(default={}, validate_default=True)

    class Net(UNet):
        def __init__(self, *, channels=3, loss="bce", postprocess=None):
            super().__init__()

    with pytest.raises(
        PluginError, match="must take the settings of its parts; add the argument options=None"
    ):
        register("fine", Fine)(Net)
    for name in ("a+b", "a.b"):
        with pytest.raises(PluginError, match="must have a name without"):
            register_loss(name)
    with pytest.raises(PluginError, match="got that of a head with others; rename one"):
        register_loss("middle", options=Fine)


def test_a_plugin_may_import_what_studies_are_read_with(tmp_path):
    """An installed plug-in is not imported while a module of ours is, which it needs whole."""
    metadata = tmp_path / "deep-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: deep\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[searcher.plugins]\ndeep = deep_plugin\n")
    (tmp_path / "deep_plugin.py").write_text(
        "from searcher.study.config import TrialConfig\nfrom searcher.study.spec import StudySpec\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport searcher.study.config\n"
        "assert 'deep_plugin' not in sys.modules, 'nobody asked for a part of it'\n"
        "import searcher.plugins as p; p.load_installed(); print(p.broken_plugins(), len(p.loaded_plugins()))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert told.stdout == "() 1\n"


def test_the_examples_gates_weigh_skips_by_0_to_1():
    """The example's gates weigh skips by 0 to 1: of a skip of ones nothing exceeds 1."""
    from attention_unet.network import AttentionGate

    torch.manual_seed(0)
    gate = AttentionGate(4, 4, 2)
    weighed = gate(torch.ones(1, 4, 8, 8), torch.randn(1, 4, 8, 8))
    assert np.all((weighed.detach().numpy() > 0) & (weighed.detach().numpy() < 1))
