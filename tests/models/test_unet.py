"""The U-Net: the poster's network to the parameter, padding that squashes nothing, weights that keep the scale."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from searcher.models.unet import UNet
from searcher.models.values import TensorBatch


def conv(before: int, after: int, size: int = 3) -> int:
    """Parameters of a convolution with bias."""
    return before * after * size * size + after


def test_plain_network_is_the_posters_to_the_parameter():
    down = conv(3, 64) + conv(64, 64) + conv(64, 128) + conv(128, 128)
    down += conv(128, 256) + conv(256, 256) + conv(256, 512) + conv(512, 512)
    bottom = conv(512, 1024) + conv(1024, 1024)
    up = sum(conv(2 * c, c, 2) + conv(2 * c, c) + conv(c, c) for c in (512, 256, 128, 64))
    expected = down + bottom + up + conv(64, 1, 1)
    assert expected == 31_031_745
    assert sum(p.numel() for p in UNet().parameters()) == expected


def test_plain_network_has_the_posters_layers_and_no_others():
    modules = UNet(base_channels=2).modules()
    kinds = [type(m) for m in modules if not list(m.children()) and not isinstance(m, nn.ModuleList)]
    assert kinds.count(nn.Conv2d) == 2 * 9 + 1
    assert kinds.count(nn.ConvTranspose2d) == 4
    assert kinds.count(nn.ReLU) == 2 * 9
    assert set(kinds) == {nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.Dropout2d}
    assert [m.p for m in UNet(base_channels=2).modules() if isinstance(m, nn.Dropout2d)] == [0]


def test_channels_double_on_the_way_down_and_halve_on_the_way_up():
    weights = [m.weight.shape for m in UNet(base_channels=8, depth=2).modules() if isinstance(m, nn.Conv2d)]
    assert [(shape[1], shape[0]) for shape in weights] == [
        *[(3, 8), (8, 8), (8, 16), (16, 16)],
        *[(16, 32), (32, 32)],
        *[(32, 16), (16, 16), (16, 8), (8, 8)],
        (8, 1),
    ]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_a_convolution_before_a_norm_has_no_bias(norm, kind):
    model = UNet(base_channels=4, depth=2, norm=norm)
    blocks = [*model.encoder, model.bottleneck, *model.decoder]
    for block in blocks:
        assert [type(layer) for layer in block] == [nn.Conv2d, kind, nn.ReLU] * 2
        assert all(layer.bias is None for layer in block if isinstance(layer, nn.Conv2d))
    assert model.classifier.bias is not None
    assert all(up.bias is not None for up in model.upsample)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (3, 1), (6, 1), (8, 2), (16, 4), (24, 6), (64, 16), (512, 32)]
)
def test_group_norm_has_groups_of_at_least_four_channels_that_divide(channels, groups):
    norm = UNet(base_channels=channels, depth=1, norm="group").encoder[0][1]
    assert norm.num_groups == groups


def test_bilinear_upsampling_is_resizing_then_a_1x1_convolution():
    """The model convolves first, which is the same and cheaper."""
    up = UNet(base_channels=4, depth=1, upsampling="bilinear").upsample[0]
    x = torch.rand(2, 8, 5, 7)
    resized = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(x), up[0](resized))


@pytest.mark.parametrize("size", [(33, 47), (16, 33), (31, 16)])
def test_padding_mirrors_and_is_cropped_away(size):
    """Padding by hand and cropping by hand gives the same logits: nothing is resized or moved."""
    torch.manual_seed(0)
    model = UNet(base_channels=2, depth=4).eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    extra = [-side % 16 for side in size]
    before = [side // 2 for side in extra]
    sides = [(b, e - b) for b, e in zip(before, extra, strict=True)]
    padded = np.pad(image, [*sides, (0, 0)], mode="reflect")
    with torch.no_grad():
        found = model(torch.from_numpy(image)[None])
        whole = model(torch.from_numpy(padded)[None])
    top, left = before
    torch.testing.assert_close(found, whole[:, :, top : top + size[0], left : left + size[1]])


def test_sizes_that_divide_are_not_padded():
    """At 16x16 the bottleneck sees 1x1: a padded image would give it more."""
    model, seen = UNet(base_channels=2, depth=4), []
    model.bottleneck.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[2:])))
    model(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))
    model(torch.zeros(1, 64, 32, 3, dtype=torch.uint8))
    assert seen == [(1, 1), (4, 2)]


def test_a_skip_joins_the_level_of_its_own_size():
    """Without any skip a decoder level would not see its encoder's: a gradient reaches the skip alone."""
    torch.manual_seed(0)
    model = UNet(base_channels=2, depth=3)
    nn.init.zeros_(model.upsample[-1].weight)  # cut the way through the bottleneck
    model(torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    assert model.encoder[0][0].weight.grad.abs().sum() > 0
    assert model.encoder[1][0].weight.grad.abs().sum() == 0


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_fresh_weights_keep_the_scale_without_norms(upsampling):
    """Logits of the plain network neither vanish nor explode, so that it learns at all."""
    torch.manual_seed(0)
    model = UNet(base_channels=32, upsampling=upsampling)
    with torch.no_grad():
        logits = model(torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8))
    assert 0.1 < logits.std() < 3


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = UNet(base_channels=4, depth=2, dropout=0.5)
    images = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("loss", ["bce", "dice", "bce+dice"])
def test_losses_are_reported_by_name(loss):
    batch = TensorBatch(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.int32))
    assert list(UNet(base_channels=1, depth=1, loss=loss).training_step(batch)) == loss.split("+")


def test_images_are_scaled_to_minus_one_to_one():
    """The first convolution of a network without a bias sees -1 for black and 1 for white."""
    model, seen = UNet(base_channels=1, depth=1), []
    model.encoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).repeat(1, 2, 1, 3)
    model(image)
    assert seen[0][0, :, 0, :].tolist() == [[-1, 1]] * 3
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_unknown_head_lists_the_known():
    with pytest.raises(ValueError, match=r"head must be one of binary, contour, distance, got 'stars'"):
        UNet(head="stars")


# ---- deep supervision ----


def test_deep_supervision_predicts_at_every_level_of_the_decoder_in_training_only():
    model = UNet(base_channels=4, depth=3, head="contour", deep_supervision=True)
    images = torch.zeros(2, 21, 30, 3, dtype=torch.uint8)
    assert [layer.in_channels for layer in model.auxiliary] == [16, 8]
    assert model(images).shape == (2, 3 * 3, 21, 30)
    assert model.eval()(images).shape == (2, 3, 21, 30)


def test_deep_supervision_weighs_each_level_half_of_the_one_above():
    torch.manual_seed(0)
    model = UNet(base_channels=4, depth=3, head="distance", loss="ce+dice", deep_supervision=True)
    labels = torch.zeros(1, 24, 24, dtype=torch.int32)
    labels[:, 4:14, 6:20] = 1
    images = torch.randint(0, 256, (1, 24, 24, 3), dtype=torch.uint8)
    logits = model(images)
    finest, middle, deepest = (model.head.losses(part, labels) for part in logits.split(2, dim=1))
    found = model.training_step(TensorBatch(images, labels))
    assert list(found) == ["ce", "dice", "distance"]
    for name, loss in found.items():
        expected = (4 * finest[name] + 2 * middle[name] + deepest[name]) / 7
        assert loss.item() == pytest.approx(expected.item())


def test_deep_supervision_leaves_what_it_supervises_alone():
    """The same weights as without: one model may be loaded into the other."""
    torch.manual_seed(0)
    plain = UNet(base_channels=4, depth=3)
    torch.manual_seed(0)
    supervised = UNet(base_channels=4, depth=3, deep_supervision=True)
    extra = supervised.state_dict().keys() - plain.state_dict().keys()
    assert {name.partition(".")[0] for name in extra} == {"auxiliary"}


def test_a_scaled_network_sees_the_resized_image_and_gives_maps_of_the_images_size():
    """Against Pillow, whose bilinear filter widens with the pixels, too."""
    torch.manual_seed(0)
    model, seen = UNet(base_channels=4, depth=1, input_scale=0.5).eval(), []
    model.encoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    with torch.no_grad():
        logits = model(torch.from_numpy(image)[None])
    for channel, found in enumerate(seen[0][0]):
        floating = Image.fromarray(image[..., channel].astype(np.float32))
        resized = np.asarray(floating.resize((20, 24), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found, resized / 127.5 - 1, atol=1e-5)
    assert logits.shape == (1, 1, 24, 20)
    maps = model.predict_maps(torch.from_numpy(image)[None])
    assert maps.shape == (1, 1, 48, 40)
    enlarged = nn.functional.interpolate(logits, size=(48, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, enlarged.sigmoid())


def test_losses_are_taken_at_the_networks_scale():
    """Every label of a doubled label map is there once: the loss of the halved is the loss of the original."""
    torch.manual_seed(0)
    half = UNet(
        base_channels=2, depth=1, input_scale=0.5, head="contour", loss="ce", contour_width_px=4
    ).eval()
    plain = UNet(base_channels=2, depth=1, head="contour", loss="ce", contour_width_px=2).eval()
    plain.load_state_dict(half.state_dict())
    labels = torch.zeros(1, 16, 16, dtype=torch.int32)
    labels[:, 2:14, 3:12] = 1
    image = torch.full((1, 16, 16, 3), 77, dtype=torch.uint8)  # the same at any scale
    doubled = [each.repeat_interleave(2, 1).repeat_interleave(2, 2) for each in (image, labels)]
    with torch.no_grad():
        found = half.training_step(TensorBatch(*doubled))["ce"]
        expected = plain.training_step(TensorBatch(image, labels))["ce"]
    assert float(found) == pytest.approx(float(expected))


def test_lengths_in_pixels_of_the_image_are_scaled_with_it():
    model = UNet(
        base_channels=1,
        depth=1,
        head="contour",
        input_scale=0.5,
        contour_width_px=8,
        border_sigma_px=5.0,
        distance_cap_px=32,
    )
    options = model.head.options
    assert (options.contour_width_px, options.border_sigma_px, options.distance_cap_px) == (4, 2.5, 16)
    thin = UNet(
        base_channels=1, depth=1, head="contour", input_scale=0.25, contour_width_px=1, distance_cap_px=0
    )
    assert (thin.head.options.contour_width_px, thin.head.options.distance_cap_px) == (1, 0)
