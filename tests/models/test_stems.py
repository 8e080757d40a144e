"""Pretrained networks on images of other channels: what the first layer sees, and with which kernels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.settings import SETTINGS
from searcher.models.stems import LikeImageNet, as_stem_input, fit_stem, imagenet_statistics, stem_channels
from searcher.models.unet import UNet

KERNELS = torch.arange(2 * 3 * 9, dtype=torch.float32).reshape(2, 3, 3, 3)


def fitted(channels):
    return fit_stem({"stem": KERNELS}, "stem", channels)["stem"]


def test_kernels_by_hand():
    """Channel c has those of red, green or blue in turn, times 3 / C; 3 channels have them bit by bit."""
    assert fitted(3) is KERNELS
    torch.testing.assert_close(fitted(2), KERNELS[:, [0, 1]] * 1.5)
    torch.testing.assert_close(fitted(4), KERNELS[:, [0, 1, 2, 0]] * 0.75)


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_channels_that_repeat_a_colour_image_give_its_activations(repeats):
    x = torch.rand(1, 3, 8, 9) * 2 - 1
    expected = F.conv2d(LikeImageNet()(x), KERNELS, padding=1)
    repeated = LikeImageNet()(x.repeat(1, repeats, 1, 1))
    torch.testing.assert_close(
        F.conv2d(repeated, fitted(3 * repeats), padding=1), expected, rtol=1e-4, atol=1e-2
    )


def test_one_channel_is_grey_in_red_green_and_blue():
    x = torch.rand(2, 1, 4, 5)
    assert torch.equal(LikeImageNet()(x), LikeImageNet()(x.repeat(1, 3, 1, 1)))
    assert torch.equal(as_stem_input(x), x.repeat(1, 3, 1, 1))
    assert (stem_channels(1), stem_channels(2), stem_channels(3), stem_channels(7)) == (3, 2, 3, 7)


def test_statistics_of_five_channels():
    mean, std = imagenet_statistics(5)
    np.testing.assert_allclose(mean.ravel(), [0.485, 0.456, 0.406, 0.485, 0.456], rtol=1e-6)
    np.testing.assert_allclose(std.ravel(), [0.229, 0.224, 0.225, 0.229, 0.224], rtol=1e-6)


def weights_of(model, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in model.state_dict().items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize(("encoder", "stem"), [("resnet18", "conv1"), ("efficientnet_lite0", "conv_stem")])
def test_a_unets_backbone_takes_weights_of_colour(encoder, stem, tmp_path):
    """From a file with the library's names, as ImageNet's have them."""
    from searcher.models.encoders import build_encoder, load_backbone

    parts = build_encoder(encoder, base_channels=4, depth=1, norm="batch")
    state = weights_of(parts.bottleneck, "")
    net = UNet(encoder=encoder, depth=1, base_channels=4, norm="batch", channels=2)
    load_backbone(encoder, [*net.encoder, net.bottleneck], state, source="a file")
    kernels = getattr(net.bottleneck, stem).weight
    torch.testing.assert_close(kernels.detach(), state[f"{stem}.weight"][:, :2] * 1.5)


@pytest.mark.parametrize(
    ("backbone", "stem"), [("resnet18", "conv1"), ("efficientnet_lite0", "level1.conv_stem")]
)
def test_a_detectors_backbone_takes_weights_of_colour(backbone, stem):
    from searcher.models.detector_weights import load_into_detector

    small = {"fpn_channels": 16, "box_layer": 16, "mask_layer": 16, "backbone": backbone, "norm": "batch"}
    colour = MaskRCNN(**small)
    state = weights_of(colour, "backbone.body.")
    net = MaskRCNN(**small, channels=4)
    of_detector = {f"backbone.body.{name}": value for name, value in state.items()}
    load_into_detector(net, of_detector, source="a file", stem=f"{stem}.weight")
    kernels = net.state_dict()[f"backbone.body.{stem}.weight"]
    torch.testing.assert_close(kernels, state[f"{stem}.weight"][:, [0, 1, 2, 0]] * 0.75)


@pytest.mark.parametrize("name", sorted(SETTINGS.names()))
def test_settings_of_colour_are_written_as_before_there_were_channels(name):
    assert "channels" not in SETTINGS[name]().model_dump()
    assert SETTINGS[name](channels=2).model_dump()["channels"] == 2
    assert SETTINGS[name](**SETTINGS[name](channels=2).model_dump()) == SETTINGS[name](channels=2)
