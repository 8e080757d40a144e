"""Heads: what their channels mean, and that touching glands are told apart by those that claim to."""

import cv2
import numpy as np
import pytest
import torch

from searcher.evaluation.official_metrics import compare, pooled
from searcher.models.heads import HeadOptions, build_head
from searcher.models.postprocess import instances_from_maps
from searcher.models.settings import PostprocessSettings
from searcher.models.unet import UNet
from searcher.models.values import TensorBatch
from searcher.testing.learning import f1_by_heart


def touching() -> tuple[np.ndarray, np.ndarray]:
    """Glands drawn as tissue shows them: dark rims around pale lumens; two pairs touch, one is alone."""
    labels = np.zeros((64, 96), np.int32)
    for label, (y, x, radius) in enumerate(
        [(18, 18, 13), (18, 43, 13), (46, 30, 14), (44, 74, 12), (14, 74, 10)], start=1
    ):
        disc = np.zeros(labels.shape, np.uint8)
        cv2.circle(disc, (x, y), radius, 1, -1)
        labels[(disc > 0) & (labels == 0)] = label
    image = np.full((*labels.shape, 3), (225, 190, 215), np.uint8)
    for label in range(1, 6):
        mask = (labels == label).astype(np.uint8)
        lumen = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11)), borderValue=0)
        image[mask > 0] = (110, 70, 150)
        image[lumen > 0] = (240, 235, 240)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), labels


def f1_after_learning(head: str, **settings) -> float:
    """Object F1 on the one image that a tiny network was trained on."""
    torch.manual_seed(0)
    model = UNet(base_channels=8, depth=3, norm="batch", head=head, contour_width_px=2, **settings)
    model.postprocess = PostprocessSettings(min_object_area_px=20, min_seed_area_px=5)
    image, labels = touching()
    batch = TensorBatch(torch.from_numpy(image)[None], torch.from_numpy(labels)[None])
    return f1_by_heart(model, batch, lr=0.01, num_steps=100)


def test_the_test_image_has_glands_that_touch():
    labels = touching()[1]
    assert cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=8)[0] - 1 < labels.max() == 5


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("contour", {"loss": "focal"}),
        ("distance", {"loss": "ce+dice"}),
        ("contour", {"loss": "ce", "border_weight": 5.0, "border_sigma_px": 3.0}),
    ],
    ids=str,
)
def test_touching_glands_are_told_apart(head, settings):
    """Each head and each loss; the losses know no head, so that not every pair is trained."""
    assert f1_after_learning(head, **settings) == 1.0


def test_the_binary_head_cannot_tell_them_apart_even_with_a_perfect_map():
    labels = touching()[1]
    instance_maps = build_head("binary", HeadOptions()).instance_maps((labels > 0).astype(np.float32)[None])
    found = instances_from_maps(
        instance_maps, PostprocessSettings(min_object_area_px=20, min_seed_area_px=5)
    ).labels
    assert pooled([compare(labels, found)])["f1"] < 1.0


# ---- channels ----


def test_contour_maps_are_a_softmax():
    logits = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    maps = build_head("contour", HeadOptions()).maps(logits)
    total = sum(np.exp([1, 2, 3]))
    assert maps.flatten().tolist() == pytest.approx([np.exp(1) / total, np.exp(2) / total, np.exp(3) / total])


def test_distance_maps_are_a_probability_and_a_distance_cut_to_its_range():
    logits = torch.tensor([[0.0, 2.0, -2.0], [0.25, 1.5, -0.5]]).view(1, 2, 1, 3)
    maps = build_head("distance", HeadOptions()).maps(logits)[0, :, 0]
    assert maps[0].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])
    assert maps[1].tolist() == [0.25, 1.0, 0.0]


def test_foreground_of_the_contour_head_is_inside_or_contour():
    maps = np.zeros((3, 1, 4), np.float32)
    maps[:, 0] = np.array([[0.4, 0.3, 0.3], [0.4, 0.0, 0.6], [0.6, 0.2, 0.2], [0.0, 1.0, 0.0]]).T
    prediction = instances_from_maps(
        build_head("contour", HeadOptions()).instance_maps(maps), PostprocessSettings()
    )
    assert prediction.labels.tolist() == [[1, 1, 0, 2]]
    assert prediction.scores.tolist() == pytest.approx([0.6, 1.0])


# ---- losses ----

LABELS = torch.tensor([[[1, 1, 2, 2, 0, 0]]], dtype=torch.int32).repeat(2, 6, 1)


@pytest.mark.parametrize("loss", ["bce", "dice", "bce+dice", "ce", "ce+dice", "focal", "focal+dice"])
@pytest.mark.parametrize("head", ["binary", "contour", "distance"])
def test_every_head_knows_every_loss(head, loss):
    head_object = build_head(head, HeadOptions(loss=loss, border_weight=3.0))
    losses = head_object.losses(torch.zeros(2, head_object.num_channels, 6, 6), LABELS)
    assert list(losses) == [*loss.split("+"), *(["distance"] if head == "distance" else [])]


@pytest.mark.parametrize("head", ["binary", "contour", "distance"])
def test_a_perfect_prediction_costs_nothing(head):
    head_object = build_head(head, HeadOptions(loss="ce+dice", contour_width_px=1))
    truth = {
        "binary": [[1, 1, 1, 1, -1, -1]],
        # Background, inside, contour: the pixels beside another label are contour.
        "contour": [[-1, -1, -1, -1, 1, 1], [1, -1, -1, -1, -1, -1], [-1, 1, 1, 1, -1, -1]],
        "distance": [[1, 1, 1, 1, -1, -1], [1, 0.5, 1, 1, 0, 0]],
    }[head]
    logits = torch.tensor(truth, dtype=torch.float32)
    if head == "distance":
        logits[0] *= 50
    else:
        logits *= 50
    logits = logits[None, :, None].repeat(2, 1, 6, 1)
    assert sum(head_object.losses(logits, LABELS).values()).item() == pytest.approx(0, abs=1e-6)


def test_the_distance_has_the_weight_asked_for():
    logits = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    light, heavy = (
        build_head("distance", HeadOptions(distance_weight=weight)).losses(logits, LABELS)
        for weight in (1.0, 4.0)
    )
    assert heavy["distance"].item() == pytest.approx(4 * light["distance"].item())
    assert heavy["bce"] == light["bce"]


@pytest.mark.parametrize("head", ["binary", "contour", "distance"])
@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_an_error_between_glands_costs_more_with_border_weights(head, loss):
    """Where glands are far from each other, nothing changes."""
    far = torch.zeros(1, 40, 40, dtype=torch.int32)
    far[0, :3, :3], far[0, -3:, -3:] = 1, 2
    plain, weighted = (
        build_head(head, HeadOptions(loss=loss, border_weight=weight, border_sigma_px=2.0))
        for weight in (0.0, 10.0)
    )
    near, spread = torch.zeros(2, plain.num_channels, 6, 6), torch.zeros(1, plain.num_channels, 40, 40)
    assert weighted.losses(near, LABELS)[loss] > 2 * plain.losses(near, LABELS)[loss]
    assert weighted.losses(spread, far)[loss].item() == pytest.approx(plain.losses(spread, far)[loss].item())


def test_unknown_head_lists_the_known():
    with pytest.raises(ValueError, match=r"head must be one of binary, contour, distance, got 'stars'"):
        build_head("stars", HeadOptions())
