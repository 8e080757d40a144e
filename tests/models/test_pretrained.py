"""Weights trained by others: through torchvision's own loading code, from a file, and where there is no network."""

import hashlib
import http.server
import io
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision.models import ResNet18_Weights, ResNet50_Weights, Weights, WeightsEnum, resnet18
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from searcher.models.exceptions import WeightsError
from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.pretrained import cached_path, fetch
from searcher.models.registry import fetch_pretrained
from searcher.models.settings import MaskRCNNSettings, UNetSettings

SMALL: dict[str, Any] = {"backbone": "resnet18", "fpn_channels": 32, "box_layer": 64, "mask_layer": 32}


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """A folder of torch's own without any weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(request):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"weights": "coco"}, MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
        ({"weights": "imagenet"}, ResNet50_Weights.IMAGENET1K_V1),
        ({"weights": "imagenet", "backbone": "resnet18"}, ResNet18_Weights.IMAGENET1K_V1),
    ],
)
def test_without_a_network_the_file_is_named_and_where_to_put_it(torch_home, settings, weights):
    file = torch_home / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    with pytest.raises(WeightsError) as caught:
        fetch_pretrained(MaskRCNNSettings(**settings))
    message = one_line(caught)
    assert f"{file.name} could not be fetched from {weights.url}" in message
    assert "Name or service not known" in message
    assert f"put the file at {file}, or do without: --set model.weights=none" in message
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".lock"] == []


def test_what_names_no_weights_needs_no_network(torch_home):
    fetch_pretrained(MaskRCNNSettings())
    fetch_pretrained(UNetSettings())
    MaskRCNN(**SMALL).load_pretrained()


def test_cocos_weights_load_all_but_the_predictors_of_its_91_classes(torch_home):
    torch.manual_seed(1)
    coco = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    torch.save(coco, cached_path(MaskRCNN_ResNet50_FPN_Weights.COCO_V1))
    torch.manual_seed(2)
    model = MaskRCNN(weights="coco")
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_pretrained()
    for name, value in model.state_dict().items():
        is_own = name.startswith(
            ("roi_heads.box_predictor", "roi_heads.mask_predictor", "rpn.anchor_generator")
        )
        is_own |= name == "detections_per_image"
        assert torch.equal(value, fresh[name] if is_own else coco[name]), name
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert {norm.eps for norm in norms} == {0.0}, "as torchvision does with these weights"


def test_imagenets_weights_become_the_backbone(torch_home):
    torch.manual_seed(1)
    classifier = resnet18().state_dict()
    torch.save(classifier, cached_path(ResNet18_Weights.IMAGENET1K_V1))
    torch.manual_seed(2)
    model = MaskRCNN(**SMALL, weights="imagenet")
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_pretrained()
    for name, value in model.state_dict().items():
        body = name.removeprefix("backbone.body.")
        assert torch.equal(value, classifier[body] if body != name else fresh[name]), name


def test_a_damaged_file_is_named(torch_home):
    path = cached_path(ResNet18_Weights.IMAGENET1K_V1)
    path.write_bytes(b"half a downl")
    with pytest.raises(WeightsError) as caught:
        fetch_pretrained(MaskRCNNSettings(**SMALL, weights="imagenet"))
    assert one_line(caught).startswith(f"{path}: must be the weights of https://")
    assert "remove it" in str(caught.value)


def test_a_detector_of_ours_loads_whole_from_a_file_but_for_what_settings_decide(tmp_path):
    torch.manual_seed(1)
    trained = MaskRCNN(**SMALL, norm="batch", anchor_min_px=10.0, detections_per_image=7)
    torch.save(trained.state_dict(), tmp_path / "glands.pth")
    model = MaskRCNN(
        **SMALL, anchor_min_px=20.0, detections_per_image=9, weights=str(tmp_path / "glands.pth")
    )
    model.load_pretrained()
    expected = trained.state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith(("rpn.anchor_generator", "detections_per_image")):
            assert torch.equal(value, expected[name]), name
    assert model.rpn.anchor_generator.sides_px[0] == 20
    assert model.detections_per_image == 9


def test_a_predictor_that_does_not_fit_is_left_out_whole(tmp_path):
    torch.manual_seed(1)
    trained = MaskRCNN(**{**SMALL, "mask_layer": 16}, norm="batch")
    torch.save(trained.state_dict(), tmp_path / "glands.pth")
    torch.manual_seed(2)
    model = MaskRCNN(**SMALL, weights=str(tmp_path / "glands.pth"))
    fresh = {name: value.clone() for name, value in model.roi_heads.mask_predictor.state_dict().items()}
    model.load_pretrained()
    assert all(torch.equal(v, fresh[name]) for name, v in model.roi_heads.mask_predictor.state_dict().items())
    torch.testing.assert_close(
        model.roi_heads.box_predictor.state_dict(), trained.roi_heads.box_predictor.state_dict()
    )


class Trap:
    """What a pickle may do when it is read."""

    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "where no file is; check the path"),
        (lambda: Trap(), "must hold weights by name and nothing else, got a file that cannot be read"),
        (lambda: [torch.zeros(2)], "must hold weights by name and nothing else, got list"),
        (lambda: {"epoch": 3}, "must hold weights by name and nothing else, got dict"),
        (lambda: {"x": torch.zeros(2)}, "got weights that lack backbone.body.conv1.weight and"),
        (
            lambda: resnet18(width_per_group=64, num_classes=3).state_dict() | {"x": torch.zeros(2)},
            "have beside it",
        ),
        (
            lambda: resnet18().state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            "must fit the network that the settings describe, got: size mismatch for backbone.body.conv1.weight",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused_in_one_line(tmp_path, monkeypatch, content, rule):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    path = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content(), path)
    model = MaskRCNN(**SMALL, weights=str(path))
    with pytest.raises(WeightsError) as caught:
        model.load_pretrained()
    assert rule in one_line(caught)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_a_classifier_has_no_statistics_for_the_norms_of_a_detectors_heads(tmp_path):
    """Frozen they would compute with mean 0 and variance 1 for ever."""
    path = tmp_path / "resnet.pth"
    torch.save(resnet18().state_dict(), path)
    with pytest.raises(WeightsError) as caught:
        MaskRCNN(**SMALL, version="v2", weights=str(path)).load_pretrained()
    # Each norm has weight, bias, mean and variance: of the pyramid 4 inner and 4 outer ones, of the heads 4 and 4.
    assert "backbone.fpn.inner_blocks.0.1.weight and 63 more; use --set model.norm=batch" in one_line(caught)
    MaskRCNN(**SMALL, version="v2", norm="batch", weights=str(path)).load_pretrained()


def test_safetensors_load_like_any_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    classifier = resnet18().state_dict()
    safetensors.save_file(classifier, tmp_path / "resnet.safetensors")
    model = MaskRCNN(**SMALL, weights=str(tmp_path / "resnet.safetensors"))
    model.load_pretrained()
    assert torch.equal(model.backbone.body.conv1.weight, classifier["conv1.weight"])


def test_of_several_processes_one_fetches_and_the_others_wait(tmp_path, monkeypatch):
    """This process and another."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    content = io.BytesIO()
    torch.save({"weight": torch.arange(100_000)}, content)
    served: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.getvalue())))
            self.end_headers()
            all_are_there.wait(60)  # so that none can come late
            self.wfile.write(content.getvalue())

        def log_message(self, *_: Any) -> None:
            pass

    all_are_there = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()

    class Some(WeightsEnum):
        V1 = Weights(f"http://127.0.0.1:{server.server_port}/some-{sha256[:8]}.pth", None, {})

    def fetch_and_say(pipe: Connection) -> None:
        pipe.send("ready")
        pipe.send(fetch(Some.V1)["weight"].sum().item())

    context = multiprocessing.get_context("fork")  # it has torch and torchvision imported
    pipe, theirs = context.Pipe()
    other = context.Process(target=fetch_and_say, args=(theirs,), daemon=True)
    other.start()
    theirs.close()
    try:
        assert pipe.recv() == "ready"
        with ThreadPoolExecutor(1) as pool:
            ours = pool.submit(fetch, Some.V1)
            all_are_there.set()
            assert ours.result(timeout=120)["weight"].sum().item() == 4999950000
        assert pipe.poll(120)
        assert pipe.recv() == 4999950000
    finally:
        all_are_there.set()
        server.shutdown()
        other.kill()
    assert len(served) == 1
