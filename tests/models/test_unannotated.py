"""Where nothing is annotated, nothing is learned: losses and gradients by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from searcher.models.boxes import find_instances, unannotated_share
from searcher.models.heads import HeadOptions, build_head
from searcher.models.registry import build_model
from searcher.models.settings import MaskRCNNSettings, PostprocessSettings, UNetSettings
from searcher.models.targets import continued
from searcher.models.values import TensorBatch

LABELS = torch.tensor([[[1, 1, 0, -1], [1, 0, 0, -1]]], dtype=torch.int32)


def test_label_maps_go_on_where_nothing_is_annotated() -> None:
    labels = torch.tensor([[[5, 0, 0, -1], [-1, -1, 0, 7]], [[-1, -1, -1, -1]] * 2], dtype=torch.int32)
    found = continued(labels)
    assert found[0, 0, :3].tolist() == [5, 0, 0]
    assert found[0, 1].tolist() == [5, 0, 0, 7]
    assert found[0, 0, 3] in (0, 7)
    assert not found[1].any()
    assert labels.min() == -1, "the caller's stay"


@pytest.mark.parametrize("loss", ["bce", "dice", "focal", "bce+dice"])
def test_losses_are_those_of_the_annotated_pixels(loss: str) -> None:
    """Six annotated pixels, three of them of an object, all at a probability of a half."""
    head = build_head("binary", HeadOptions(loss=loss))
    logits = torch.zeros((1, 1, 2, 4), requires_grad=True)
    losses = head.losses(logits, LABELS)
    expected = {
        "bce": math.log(2),
        "dice": 1 - (2 * 1.5 + 1) / (3 + 3 + 1),
        "focal": 0.25 * math.log(2),
    }
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(
        {name: expected[name] for name in loss.split("+")}
    )
    torch.stack([*losses.values()]).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[..., 3].any()
    assert logits.grad[..., :3].all()


@pytest.mark.parametrize("head", ["binary", "contour", "distance"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_head_learns_what_the_annotated_part_alone_teaches(head: str, outputs: int) -> None:
    """With the rest of the object's row not annotated, as if the image went on: as a crop that ends there has it."""
    labels = torch.zeros((2, 12, 16), dtype=torch.int32)
    labels[:, 3:9, 2:16] = 1
    made = build_head(head, HeadOptions(loss="ce+dice", border_weight=2.0, distance_cap_px=3))
    logits = torch.randn((2, outputs * made.num_channels, 12, 16), generator=torch.Generator().manual_seed(0))
    whole = made.losses(logits[..., :10], labels[..., :10])
    partial = labels.clone()
    partial[..., 10:] = -1
    found = made.losses(logits, partial)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in whole.items()}, rel=1e-5
    )


def test_of_nothing_annotated_nothing_is_learned() -> None:
    head = build_head("contour", HeadOptions(loss="ce+dice"))
    logits = torch.randn((1, 3, 4, 4), requires_grad=True)
    losses = head.losses(logits, torch.full((1, 4, 4), -1, dtype=torch.int32))
    assert [value.item() for value in losses.values()] == [0, 0]
    torch.stack([*losses.values()]).sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_u_net_does_not_see_what_lies_below(scale: float) -> None:
    settings = UNetSettings(base_channels=4, depth=2, input_scale=scale)
    model = build_model(settings, PostprocessSettings()).eval()
    images = torch.randint(
        0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    labels = torch.zeros((1, 32, 32), dtype=torch.int32)
    labels[:, 4:12, 4:12] = 1
    labels[:, 16:] = -1
    (loss,) = model.training_step(TensorBatch(images, labels)).values()
    logits = model(images)
    half = logits.shape[2] // 2
    expected = F.binary_cross_entropy_with_logits(
        logits[:, :, :half],
        F.interpolate((labels[:, None] == 1).float(), logits.shape[2:], mode="nearest")[:, :, :half],
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_boxes_know_how_much_of_them_is_not_annotated() -> None:
    labels = torch.zeros((4, 8), dtype=torch.int32)
    labels[:, 6:], labels[0, 0] = -1, 3
    boxes = torch.tensor(
        [[4, 0, 8, 4], [0, 0, 6, 4], [6, 1, 20, 9], [-9, -9, -2, -2], [5, 0, 8, 2]], dtype=torch.float32
    )
    assert unannotated_share(labels, boxes).tolist() == pytest.approx([0.5, 0, 1, 0, 2 / 3])
    found = find_instances(labels)
    assert found.labels.tolist() == [3]
    assert found.boxes.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("with_object", [True, False])
def test_mask_rcnn_takes_no_negative_example_from_there(with_object: bool) -> None:
    """Whatever features lie where nothing is annotated, no anchor and no proposal of background is taken there."""
    torch.manual_seed(0)
    settings = MaskRCNNSettings(
        backbone="resnet18", weights="none", fpn_channels=16, box_layer=16, mask_layer=16, norm="group",
        anchor_min_px=8.0, anchor_octaves=1.0, anchor_aspect=1.5, detections_per_image=10,
    )  # fmt: skip
    model = build_model(settings, PostprocessSettings()).train()
    taken: list[list[torch.Tensor]] = []
    samplers = (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler)
    for sampler in samplers:
        sampler.register_forward_hook(lambda _module, inputs, _output: taken.append(inputs[0]))
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    labels = torch.full((1, 64, 64), -1, dtype=torch.int32)
    if with_object:
        labels[:, :, :32] = 0
        labels[:, 8:24, 8:24] = 1
    losses = model.training_step(TensorBatch(images, labels))
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack([*losses.values()]).sum().backward()
    if not with_object:
        assert [losses[name].item() for name in ("objectness", "rpn_box", "classifier", "box", "mask")] == [
            0
        ] * 5
        assert len(taken) == 1, "of the proposals alone, since no anchor is left"
        assert all((each == -1).all() for each in taken[0])
        return
    anchors_of, proposals_of = taken
    assert any((each > 0).any() for each in anchors_of)
    assert all((each < 0).any() for each in (*anchors_of, *proposals_of))
