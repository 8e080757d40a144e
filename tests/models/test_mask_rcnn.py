"""Mask R-CNN against torchvision's, whose parts it is made of, and where it differs from it on purpose."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2, roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, roi_align

from searcher.models.detector import BoxSampler
from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.settings import MaskRCNNSettings, ObjectStatistics, PostprocessSettings
from searcher.models.values import TensorBatch

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "anchor_min_px": 8.0,
    "anchor_octaves": 2.0,
    "anchor_aspect": 2.0,
    "rpn_proposals": 100,
    "rpn_samples": 64,
    "box_samples": 64,
}
OWN_STATE = {"rpn.anchor_generator.sides_px", "rpn.anchor_generator.ratios", "detections_per_image"}


def small(**settings: Any) -> MaskRCNN:
    torch.manual_seed(0)
    narrow = {"fpn_channels": 32, "box_layer": 64, "mask_layer": 32}
    return MaskRCNN(**{**SMALL, **narrow, **settings})


def batch() -> TensorBatch:
    """Two images of 96 x 64 px with three and with one rectangle."""
    labels = torch.zeros(2, 64, 96, dtype=torch.int32)
    labels[0, 4:20, 8:40], labels[0, 30:60, 10:30], labels[0, 30:50, 50:90] = 3, 900, 7
    labels[1, 10:50, 20:70] = 1
    noise = torch.randint(0, 40, (2, 64, 96, 3), generator=torch.Generator().manual_seed(1))
    return TensorBatch((torch.where(labels[..., None] > 0, 90, 190) + noise).to(torch.uint8), labels)


def targets(labels: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """What torchvision is trained on, made pixel by pixel."""
    made = []
    for label_map in labels:
        values = [value for value in label_map.unique().tolist() if value]
        masks = torch.stack([(label_map == value) for value in values])
        boxes = []
        for mask in masks:
            y, x = mask.nonzero(as_tuple=True)
            boxes.append([x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1])
        made.append(
            {
                "boxes": torch.tensor(boxes).float(),
                "labels": torch.ones(len(values), dtype=torch.int64),
                "masks": masks.to(torch.uint8),
            }
        )
    return made


@pytest.fixture(scope="module")
def pair() -> tuple[MaskRCNN, TorchvisionMaskRCNN]:
    """The same small network twice, with the same weights: ours, and as torchvision's own class runs it."""
    torch.manual_seed(0)
    ours = MaskRCNN(**SMALL, norm="batch", detections_per_image=20)
    heads = ours.roi_heads  # with predictions that are not all alike, as fresh ones are
    for layer in (heads.box_predictor.cls_score, heads.box_predictor.bbox_pred, heads.mask_predictor[2]):
        nn.init.normal_(layer.weight, std=0.1)
    body = resnet18(norm_layer=nn.BatchNorm2d)
    layers = {f"layer{i}": str(i - 1) for i in (1, 2, 3, 4)}
    backbone = BackboneWithFPN(body, layers, [64, 128, 256, 512], 256)
    sides, ratios = ours.rpn.anchor_generator.sides_px, (0.5, 1.0, 2.0)
    anchors = AnchorGenerator(tuple((side,) for side in sides.tolist()), (ratios,) * 5)
    extents = [
        [[-(side / ratio**0.5), -side * ratio**0.5, side / ratio**0.5, side * ratio**0.5] for ratio in ratios]
        for side in sides.tolist()
    ]
    anchors.cell_anchors = [torch.tensor(extent) / 2 for extent in extents]  # torchvision rounds them
    theirs = TorchvisionMaskRCNN(
        backbone,
        num_classes=2,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=64,
        box_detections_per_img=20,  # a mask is made of each
        _skip_resize=True,
    )
    state = {name: value for name, value in ours.state_dict().items() if name not in OWN_STATE}
    theirs.load_state_dict(state)
    return ours, theirs


def aligned_targets(masks, boxes, matched, size):
    """torchvision's own places the samples of a mask half a pixel off, and takes more of large boxes."""
    boxes = torch.cat([matched[:, None].to(boxes), boxes], dim=1)
    return roi_align(masks[:, None].to(boxes), boxes, (size, size), sampling_ratio=2, aligned=True)[:, 0]


def test_with_the_same_random_numbers_the_losses_are_torchvisions(pair, monkeypatch):
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", aligned_targets)
    ours, theirs = pair
    images, labels, _ = batch()
    torch.manual_seed(3)
    found = ours.train().training_step(TensorBatch(images, labels))
    torch.manual_seed(3)
    expected = theirs.train()([image.permute(2, 0, 1) / 255 for image in images], targets(labels))
    names = {
        "objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "classifier": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
    }
    for name, theirs_name in names.items():
        torch.testing.assert_close(found[name], expected[theirs_name], rtol=1e-4, atol=1e-6, msg=name)
    assert found.keys() == set(names)


def test_what_is_found_is_what_torchvision_finds(pair):
    ours, theirs = pair
    images, _, _ = batch()
    theirs.transform = GeneralizedRCNNTransform(64, 96, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs.eval()([image.permute(2, 0, 1) / 255 for image in images])
    for found, other in zip(ours.eval().detect(images), expected, strict=True):
        assert len(found.scores) > 10
        np.testing.assert_allclose(found.scores, other["scores"].numpy(), atol=1e-5)
        np.testing.assert_allclose(found.boxes, other["boxes"].numpy(), atol=1e-2)
        assert found.size == (64, 96)


@pytest.mark.parametrize(
    ("version", "build"), [("v1", maskrcnn_resnet50_fpn), ("v2", maskrcnn_resnet50_fpn_v2)]
)
def test_the_structure_is_torchvisions(version, build):
    with torch.device("meta"):
        ours = MaskRCNN(version=version, norm="batch").state_dict()
        theirs = build(weights=None, weights_backbone=None, num_classes=2).state_dict()
    assert {name: value.shape for name, value in ours.items() if name not in OWN_STATE} == {
        name: value.shape for name, value in theirs.items()
    }


@pytest.mark.parametrize(
    ("size", "settings", "expected"),
    [
        ((522, 775), {"input_scale": 0.0}, (800, 1187)),
        ((448, 448), {"input_scale": 0.0}, (800, 800)),
        ((100, 400), {"input_scale": 0.0}, (333, 1333)),
        ((522, 775), {"input_scale": 0.5}, (261, 387)),
        ((1, 9), {"input_scale": 0.5}, (1, 4)),
    ],
)
def test_the_inputs_size(size, settings, expected):
    """With a scale of 0 that of torchvision: the shorter side 800, the longer at most 1333."""
    assert small(**settings)._input_size(*size) == expected
    if settings["input_scale"] == 0:
        transform = GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3).eval()
        assert transform([torch.zeros(3, *size)])[0].image_sizes == [expected]


def test_a_box_is_found_at_the_images_own_resolution():
    """Twice as large an input, the same boxes: what the network's boxes are scaled by is undone."""
    images, _, _ = batch()
    model = small(input_scale=2.0).eval()
    for found in model.detect(images):
        assert found.boxes[:, 2].max() <= 96
        assert found.boxes[:, 3].max() <= 64
        assert found.boxes[:, 2].max() > 60


def everything(**settings: Any) -> MaskRCNN:
    """A model whose losses look at all anchors and proposals, so that nothing is drawn at random."""
    return small(rpn_samples=100_000, box_samples=100_000, **settings)


def test_the_validation_loss_is_the_training_loss():
    model = everything()
    training = model.train().training_step(batch())
    with torch.no_grad():
        validation = model.eval().training_step(batch())
    assert {name: loss.item() for name, loss in validation.items()} == pytest.approx(
        {name: loss.item() for name, loss in training.items()}, rel=1e-5
    )


def test_evaluating_gives_the_same_loss_and_detections_as_asking_for_each():
    model = small().eval()
    losses, found = model.evaluate(batch())
    with torch.no_grad():
        assert losses == model.training_step(batch())
    for one, other in zip(found, model.detect(batch().images), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.masks, other.masks)


def test_validation_draws_no_random_number_and_moves_no_statistics():
    model = small(norm="batch").eval()
    state, before = torch.get_rng_state(), {name: v.clone() for name, v in model.state_dict().items()}
    model.evaluate(batch())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_training_draws_from_the_global_generator():
    model = small().train()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(sum(loss.item() for loss in model.training_step(batch()).values()))
    assert losses[0] == losses[1] != losses[2]


def test_an_image_without_an_instance_has_no_loss_but_of_what_should_not_be_found():
    images, labels, _ = batch()
    losses = small().training_step(TensorBatch(images, torch.zeros_like(labels)))
    assert losses["rpn_box"] == losses["box"] == losses["mask"] == 0
    assert losses["objectness"] > 0
    assert losses["classifier"] > 0


def test_slivers_change_no_loss():
    """One pixel wide or high in the network's input is nothing to learn a mask from."""
    images, labels, _ = batch()
    with_slivers = labels.clone()
    with_slivers[0, 0, :50], with_slivers[1, :, 95] = 50, 60
    model = everything().eval()
    with torch.no_grad():
        assert model.training_step(TensorBatch(images, with_slivers)) == model.training_step(
            TensorBatch(images, labels)
        )


def test_the_sampler_takes_at_most_its_part_of_positive_ones_and_fills_up_with_negative_ones():
    classes = [torch.tensor([1] * 10 + [0] * 10 + [-1] * 10), torch.tensor([1, 0, 0, -1] + [-1] * 26)]
    positive, negative = BoxSampler(8, 0.5)(classes)
    assert [each.count_nonzero().item() for each in positive] == [4, 1]
    assert [each.count_nonzero().item() for each in negative] == [4, 2]
    for chosen, candidates, value in ((positive, classes, 1), (negative, classes, 0)):
        for each, of in zip(chosen, candidates, strict=True):
            assert (of[each] == value).all()


def test_stages_are_frozen_from_the_image_up():
    model = small(weights="imagenet", trainable_layers=2)
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    trained = {
        name.split(".")[2]
        for name, p in model.backbone.named_parameters(prefix="backbone")
        if p.requires_grad and ".body." in name
    }
    assert (frozen, trained) == ({"conv1", "layer1", "layer2"}, {"layer3", "layer4"})
    assert all(p.requires_grad for p in small(trainable_layers=2).parameters()), "fresh weights are trained"


@pytest.mark.parametrize(
    ("settings", "norm"),
    [
        ({}, nn.GroupNorm),
        ({"weights": "imagenet"}, FrozenBatchNorm2d),
        ({"weights": "imagenet", "norm": "batch"}, nn.BatchNorm2d),
    ],
)
def test_norms_are_frozen_with_pretrained_weights_and_groups_without(settings, norm):
    norms = (nn.GroupNorm, nn.BatchNorm2d, FrozenBatchNorm2d)
    assert {type(module) for module in small(**settings).modules() if isinstance(module, norms)} == {norm}


def test_heads_that_no_pretrained_weights_have_get_norms_that_do_something():
    model = small(version="v2", weights="imagenet")
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.body.modules())
    heads = [*model.roi_heads.modules(), *model.backbone.fpn.modules()]
    assert any(isinstance(module, nn.GroupNorm) for module in heads)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in heads)


GLANDS = ObjectStatistics(small_px=25.0, large_px=400.0, aspect=1.7, max_per_image=31)


def test_what_is_left_to_the_data_comes_from_them_and_the_rest_stays():
    settings = MaskRCNNSettings()
    assert settings.wants_objects
    found = settings.with_objects(GLANDS)
    assert (found.anchor_min_px, found.anchor_octaves, found.anchor_aspect) == (25.0, 4.0, 1.7)
    assert found.detections_per_image == 62
    assert not found.wants_objects
    fixed = MaskRCNNSettings(anchor_min_px=50.0, detections_per_image=7).with_objects(GLANDS)
    assert (fixed.anchor_min_px, fixed.anchor_octaves, fixed.detections_per_image) == (50.0, 3.0, 7)


def test_objects_of_one_size_leave_room_between_the_anchors():
    found = MaskRCNNSettings().with_objects(ObjectStatistics(12.0, 12.0, 1.0, 200))
    assert (found.anchor_octaves, found.anchor_aspect) == (0.5, 1.25)


def test_anchors_and_detections_come_back_with_the_weights():
    """Whoever loads a checkpoint need not have the data that they were found out from."""
    narrow = {"fpn_channels": 32, "box_layer": 64, "mask_layer": 32}
    open_settings = {
        **SMALL,
        **narrow,
        "anchor_min_px": 0.0,
        "anchor_octaves": 0.0,
        "detections_per_image": 0,
    }
    torch.manual_seed(0)
    fitted = MaskRCNNSettings(**open_settings).with_objects(GLANDS).model_dump(exclude={"name"})
    trained, loaded = MaskRCNN(**fitted), MaskRCNN(**open_settings)
    assert loaded.rpn.anchor_generator.sides_px.tolist() == [32, 64, 128, 256, 512]
    loaded.load_state_dict(trained.state_dict())
    assert loaded.rpn.anchor_generator.sides_px.tolist() == [25, 50, 100, 200, 400]
    assert loaded.detections_per_image == 62
    for one, other in zip(*(m.eval().detect(batch().images) for m in (trained, loaded)), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_an_image_has_no_more_detections_than_asked_for():
    images = batch().images
    assert max(len(found.scores) for found in small().eval().detect(images)) > 3
    assert [len(found.scores) for found in small(detections_per_image=3).eval().detect(images)] == [3, 3]


def test_thresholds_are_tuned_without_the_network():
    model = small().eval()
    [found, _] = model.detect(batch().images)
    model.postprocess = PostprocessSettings(min_score=0.0, max_overlap=1.0)
    many = model.instances_from_detections(found)
    model.postprocess = PostprocessSettings(min_score=0.999)
    assert len(many.scores) > len(model.instances_from_detections(found).scores) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"weights": "cocoa"},
            "must be 'none', 'imagenet', 'coco' or a file ending in .pth, .pt or .safetensors",
        ),
        (
            {"weights": "coco", "fpn_channels": 64},
            "weights='coco' needs backbone='resnet50' fpn_channels=256",
        ),
        ({"weights": "imagenet", "norm": "group"}, "norm='group' needs weights='none'"),
        ({"norm": "frozen"}, "norm='frozen' needs weights, got weights='none'"),
        ({"rpn_background_iou": 0.8}, "rpn_background_iou must not be above rpn_foreground_iou"),
        ({"min_size_px": 1400}, "min_size_px must not be above max_size_px, got min_size_px=1400"),
        ({"anchor_aspect": 0.5}, "anchor_aspect must be 0 or at least 1, got 0.5"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        MaskRCNNSettings(**settings)
