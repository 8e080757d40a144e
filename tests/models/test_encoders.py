"""Encoders: which levels they have, and ResNets' weights through torchvision's names."""

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18, resnet34, resnet50

from searcher.models.exceptions import WeightsError
from searcher.models.pretrained import cached_path
from searcher.models.registry import fetch_pretrained
from searcher.models.settings import UNetSettings
from searcher.models.unet import UNet

RESNETS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def levels_seen(model: UNet, size: int = 64) -> list[tuple[int, int]]:
    """Channels and side of what each level makes, from the top down."""
    seen: list[tuple[int, int]] = []
    for level in [*model.encoder, model.bottleneck]:
        level.register_forward_hook(
            lambda module, args, output: seen.append((output.shape[1], output.shape[2]))
        )
    model.eval()(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return seen


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_channels_double_where_sides_halve(name):
    assert levels_seen(UNet(encoder=name, base_channels=4, depth=3)) == [(4, 64), (8, 32), (16, 16), (32, 8)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", [3, 64, 64, 128, 256, 512]), ("resnet50", [3, 64, 256, 512, 1024, 2048])],
)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_resnet_has_its_own_channels_and_ends_at_the_depth(name, channels, depth):
    model = UNet(encoder=name, base_channels=4, depth=depth, norm="batch")
    expected = [(channels[level], 64 // 2**level) for level in range(depth + 1)]
    assert levels_seen(model) == expected


# ---- residual ----


def test_a_fresh_residual_block_is_its_shortcut():
    for norm in ("none", "batch", "group"):
        torch.manual_seed(0)
        block = UNet(encoder="residual", base_channels=8, depth=1, norm=norm).encoder[0].eval()
        x = torch.randn(1, 3, 9, 9)
        torch.testing.assert_close(block(x), nn.functional.relu(block.shortcut(x)))


def test_a_residual_block_adds_what_its_body_makes():
    torch.manual_seed(0)
    block = UNet(encoder="residual", base_channels=8, depth=1).encoder[0]
    nn.init.normal_(block.body[-1].weight)
    x = torch.randn(1, 3, 9, 9)
    first, relu, second = block.body
    expected = nn.functional.relu(second(relu(first(x))) + block.shortcut(x))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("encoder", ["residual", "resnet18"])
def test_fresh_weights_keep_the_scale_without_norms(encoder):
    torch.manual_seed(0)
    model = UNet(encoder=encoder, base_channels=32).eval()
    with torch.no_grad():
        logits = model(torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8))
    assert 0.1 < logits.std() < 10


# ---- pretrained ResNets ----


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """A folder of torch's own without any weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(request):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", RESNETS)
def test_loaded_levels_compute_what_torchvisions_do(name, tmp_path):
    torch.manual_seed(1)
    theirs = RESNETS[name]().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = UNet(
        encoder=name, depth=5, base_channels=2, norm="group", weights=str(tmp_path / "weights.pth")
    ).eval()
    model.load_pretrained()
    seen: list[torch.Tensor] = []
    model.bottleneck.register_forward_hook(lambda module, args, output: seen.append(output))
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        model(images)
        x = images.permute(0, 3, 1, 2) / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
    torch.testing.assert_close(seen[0], expected, rtol=1e-3, atol=1e-3)


def test_a_shallow_encoder_takes_the_layers_that_it_has(tmp_path):
    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    for depth in (1, 2, 3):
        model = UNet(encoder="resnet18", depth=depth, base_channels=2, weights=str(tmp_path / "weights.pth"))
        model.load_pretrained()
        stem = model.encoder[1] if depth > 1 else model.bottleneck
        assert torch.equal(stem.conv1.weight, theirs.conv1.weight)


def test_imagenets_weights_come_from_torchs_own_folder(torch_home):
    torch.save(resnet18().state_dict(), cached_path(ResNet18_Weights.IMAGENET1K_V1))
    model = UNet(encoder="resnet18", weights="imagenet", base_channels=2)
    before = model.encoder[1].conv1.weight.clone()
    model.load_pretrained()
    assert not torch.equal(model.encoder[1].conv1.weight, before)


def test_without_a_network_building_works_and_loading_names_the_file(torch_home):
    settings = UNetSettings(encoder="resnet18", weights="imagenet", base_channels=2)
    model = UNet(**settings.model_dump(exclude={"name"}))
    file = cached_path(ResNet18_Weights.IMAGENET1K_V1)
    for act in (model.load_pretrained, lambda: fetch_pretrained(settings)):
        with pytest.raises(WeightsError, match=f"put the file at {file}") as caught:
            act()
        assert "\n" not in str(caught.value)
        assert "--set model.weights=none" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"encoder": "resnet18"}, {"weights": "imagenet"}, {"encoder": "residual", "weights": "imagenet"}],
)
def test_no_weights_and_no_resnet_need_no_network(torch_home, settings):
    fetch_pretrained(UNetSettings(**settings))
    UNet(base_channels=2, **settings).load_pretrained()


@pytest.mark.parametrize("what", ["another ResNet", "nothing of it"])
def test_weights_of_another_network_are_one_line(tmp_path, what):
    state = resnet50().state_dict() if what == "another ResNet" else {"a": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pth")
    model = UNet(encoder="resnet18", base_channels=2, weights=str(tmp_path / "weights.pth"))
    with pytest.raises(
        WeightsError, match=r"must be of the network that model.encoder names, got: "
    ) as caught:
        model.load_pretrained()
    assert "\n" not in str(caught.value)


def test_a_pretrained_encoder_has_batch_norm_whatever_norm_says():
    model = UNet(encoder="resnet18", weights="imagenet", base_channels=8, norm="group")
    assert isinstance(model.encoder[1].bn1, nn.BatchNorm2d)
    assert isinstance(model.decoder[0][1], nn.GroupNorm)
    assert isinstance(UNet(encoder="resnet18", base_channels=8, norm="group").encoder[1].bn1, nn.GroupNorm)


# ---- what cannot be built ----


def test_unknown_encoders_list_the_known():
    for name in ("vgg", "resnet7", "efficientnet_b0"):
        with pytest.raises(ValueError, match=rf"encoder must be one of plain, .*resnet50, .*, got '{name}'"):
            UNet(encoder=name)


def test_a_resnet_ends_at_five_halvings():
    with pytest.raises(ValueError, match=r"needs a depth of at most 5, got depth=6"):
        UNetSettings(encoder="resnet34", depth=6)
    with pytest.raises(ValueError, match=r"needs a depth of at most 5, got depth=6"):
        UNet(encoder="resnet34", depth=6, base_channels=1)


@pytest.mark.parametrize("value", ["coco", "weights.bin", ""])
def test_weights_that_are_no_name_and_no_file_are_refused(value):
    with pytest.raises(ValueError, match=r"must be 'none', 'imagenet' or a file ending in"):
        UNetSettings(weights=value)
