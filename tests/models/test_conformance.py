"""What every model of ours must do, by the checks that plug-ins are checked by."""

import pytest

from searcher.models.settings import SETTINGS
from searcher.testing import Subject, model_checks
from searcher.testing.models import check_learns

SMALL = {
    "unet": {"base_channels": 4, "depth": 2},
    "mask_rcnn": {
        "backbone": "resnet18",
        "fpn_channels": 32,
        "box_layer": 64,
        "mask_layer": 32,
        "anchor_min_px": 8.0,
        "anchor_octaves": 2.0,
        "rpn_proposals": 100,
        "rpn_samples": 64,
        "box_samples": 64,
    },
}
"""Settings that make a model small enough for tests, by its name."""

LEARNING = {"unet": (0.01, 80), "mask_rcnn": (0.001, 60)}
"""Learning rate of Adam and number of steps, at most, with which the small model learns a few images by heart."""

VARIANTS = {
    "unet": [
        {},
        {"norm": "batch", "loss": "dice"},
        {"norm": "group", "loss": "bce+dice", "upsampling": "bilinear", "channels": 4},
        {"dropout": 0.3, "depth": 1},
        {"base_channels": 1, "depth": 5, "norm": "batch"},
        {"base_channels": 1, "depth": 5, "norm": "group"},
        {"head": "contour", "loss": "ce+dice", "norm": "batch"},
        {"head": "distance", "loss": "focal", "border_weight": 10.0, "deep_supervision": True},
        {"encoder": "residual", "head": "contour", "loss": "focal+dice"},
        {"encoder": "residual", "norm": "group", "loss": "ce", "border_weight": 2.0},
        {"encoder": "resnet18", "depth": 5, "norm": "group", "head": "distance", "channels": 1},
        {"encoder": "efficientnet_lite0", "depth": 3, "norm": "batch", "head": "contour"},
        {"input_scale": 0.5, "head": "contour", "norm": "batch"},
        {"input_scale": 1.5},
        # As built, without the weights.
        {"encoder": "resnet18", "weights": "imagenet", "deep_supervision": True},
    ],
    "mask_rcnn": [
        {},
        {"norm": "batch", "version": "v2", "input_scale": 0.5},
        {"backbone": "efficientnet_lite0", "channels": 4},
        # As built, without the weights.
        {
            "weights": "imagenet",
            "trainable_layers": 1,
            "input_scale": 0.0,
            "min_size_px": 96,
            "version": "v2",
        },
    ],
}
"""Settings beside the small ones with which each model must conform, by its name."""

CASES = [(name, variant) for name in SETTINGS.built_in_names() for variant in VARIANTS[name]]
SUBJECTS = {
    "-".join([name, *(f"{k}={v}" for k, v in variant.items())]): Subject(
        SETTINGS[name](**{**SMALL[name], **variant})
    )
    for name, variant in CASES
}


@pytest.mark.parametrize("case", SUBJECTS)
@pytest.mark.parametrize("check", model_checks(), ids=lambda check: check.__name__)
def test_conforms(check, case):
    check(SUBJECTS[case])


LEARNERS = [(name, {}, name != "unet") for name in SETTINGS.built_in_names()] + [
    ("unet", {"head": "contour", "contour_width_px": 2}, True),
    ("unet", {"head": "distance", "norm": "batch"}, True),
    ("unet", {"encoder": "residual", "loss": "focal+dice"}, False),
    ("unet", {"input_scale": 0.5, "norm": "batch"}, False),
]
"""Name, variant, and whether touching glands are told apart: not by a U-Net with a binary head."""


@pytest.mark.parametrize(("name", "variant", "tells_apart"), LEARNERS, ids=str)
def test_learns_a_few_images_by_heart(name, variant, tells_apart):
    lr, num_steps = LEARNING[name]
    subject = Subject(SETTINGS[name](**{**SMALL[name], **variant}))
    check_learns(subject, lr=lr, num_steps=num_steps, touching=tells_apart)
