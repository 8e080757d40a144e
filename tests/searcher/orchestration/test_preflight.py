"""A study whose checkpoints the disk cannot hold does not begin, nor one whose weights cannot be had."""

import shutil
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from tiny_study import TINY, tiny

from searcher.exceptions import UserError
from searcher.models import registry
from searcher.orchestration import preflight
from searcher.orchestration.preflight import check_disk, check_weights
from searcher.study.reader import parse_study

MIB = 2**20


@pytest.fixture
def free(monkeypatch):
    """A function that makes the disk have so many bytes free."""

    def make(num_bytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=num_bytes))

    return make


@pytest.fixture
def checkpoints_of_10_mib(monkeypatch):
    monkeypatch.setattr(preflight, "_largest_checkpoint", lambda _: 10 * MIB)


@pytest.mark.parametrize(
    ("remaining", "concurrent", "keep", "num_files"),
    [
        (20, 2, 0, 4 * 2 + 20),  # all files of those that run, the best of every trial
        (20, 2, 5, 4 * 2 + 5),
        (1, 8, 0, 4 + 1),  # no more can run than remain
    ],
)
def test_counted_are_the_files_of_running_trials_and_the_best_of_those_that_are_kept(
    free, checkpoints_of_10_mib, tmp_path, remaining, concurrent, keep, num_files
):
    needed = num_files * 10 * MIB + 64 * MIB
    ask = {"num_remaining": remaining, "num_concurrent": concurrent}
    free(needed)
    check_disk(tiny(resources__keep_best=keep), tmp_path / "not" / "there", **ask)
    free(needed - 1)
    with pytest.raises(
        UserError, match=f"must have room for {num_files} checkpoints of up to 0.01 GiB"
    ) as error:
        check_disk(tiny(resources__keep_best=keep), tmp_path / "not" / "there", **ask)
    assert "\n" not in str(error.value)


def test_the_largest_corner_of_the_space_decides():
    def largest(channels: str) -> int:
        text = TINY.replace("base_channels = 2\n", "") + f"[space.model]\nbase_channels = {channels}\n"
        return preflight._largest_checkpoint(tiny(text))

    fixed = preflight._largest_checkpoint(tiny(model__base_channels=16))
    assert largest("{ low = 2, high = 16, step = 2 }") == fixed
    assert largest("{ choices = [16, 2, 4] }") == fixed
    assert largest("{ choices = [2, 4] }") < fixed / 8, "weights grow with the square of the channels"
    adam, sgd = (preflight._largest_checkpoint(tiny(optimizer__name=name)) for name in ("adamw", "sgd"))
    assert sgd < adam == preflight._largest_checkpoint(tiny())


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """A folder of torch's own without any weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(request):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return tmp_path


def study(body: str, **overrides):
    return parse_study(f'[study]\nname = "s"\n[model]\n{body}', source="s.toml", overrides=overrides)


MASK_RCNN = 'name = "mask_rcnn"\n'


def test_weights_that_cannot_be_had_are_refused_before_anything_begins(torch_home):
    with pytest.raises(
        UserError, match=r"maskrcnn_resnet50_fpn_coco-bf2d0c1e\.pth could not be fetched"
    ) as error:
        check_weights(study(MASK_RCNN + 'weights = "coco"'))
    assert f"put the file at {torch_home}/hub/checkpoints/maskrcnn" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", ['name = "unet"', MASK_RCNN, MASK_RCNN + 'weights = "none"'])
def test_a_study_that_begins_from_nothing_needs_no_network(torch_home, body):
    check_weights(study(body))


def test_all_weights_that_the_space_has_are_asked_for(torch_home, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "fetch_pretrained", lambda settings: asked.append(settings))
    space = (
        MASK_RCNN
        + '[space.model]\nweights = {choices = ["none", "coco"]}\nbackbone = {choices = ["resnet18", "resnet50"]}\n'
        + "box_nms_threshold = {low = 0.3, high = 0.7}"
    )
    check_weights(study(space))
    assert {(each.weights, each.backbone) for each in asked} == {
        ("none", "resnet18"),
        ("none", "resnet50"),
        (
            "coco",
            "resnet50",
        ),  # with the other one COCO's weights cannot go, and such a trial fails on its own
    }
    assert len(asked) == 3
