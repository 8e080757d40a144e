"""What every model of ours must do, by the checks that plug-ins are checked by."""

import pytest

from searcher.models.settings import SETTINGS
from searcher.testing import Subject, model_checks
from searcher.testing.models import SIZES, check_any_size, check_compiles, check_learns

SMALL = {
    "unet": {"base_channels": 4, "depth": 2},
    "mask_rcnn": {
        "backbone": "efficientnet_lite0",
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

LEARNING = {"unet": (0.01, 80), "mask_rcnn": (0.003, 60)}
"""Learning rate of Adam and number of steps, at most, with which the small model learns a few images by heart."""

VARIANTS = {
    "unet": [
        {},
        {"norm": "batch", "loss": "dice", "dropout": 0.3, "depth": 1, "num_classes": 1},
        {
            "norm": "group",
            "loss": "bce+dice",
            "upsampling": "bilinear",
            "channels": 4,
            "input_scale": 1.5,
            "num_classes": 2,
            "class_weights": (0.5, 2.0),
        },
        {"base_channels": 1, "depth": 5, "norm": "batch", "head": "contour", "loss": "ce+dice"},
        {"base_channels": 1, "depth": 5, "norm": "group", "encoder": "residual", "border_weight": 2.0},
        {
            "head": "distance",
            "loss": "focal",
            "border_weight": 10.0,
            "deep_supervision": True,
            "num_classes": 5,
            "class_names": tuple("abcde"),
        },
        {"encoder": "residual", "head": "contour", "loss": "focal+dice", "input_scale": 0.5, "norm": "batch"},
        {"encoder": "resnet18", "depth": 5, "norm": "group", "head": "distance", "channels": 1},
        {"encoder": "efficientnet_lite0", "depth": 3, "norm": "batch", "head": "contour", "loss": "ce"},
        # As built, without the weights.
        {"encoder": "resnet18", "weights": "imagenet", "deep_supervision": True},
    ],
    "mask_rcnn": [
        {},
        {
            "backbone": "resnet18",
            "norm": "batch",
            "version": "v2",
            "input_scale": 0.5,
            "channels": 4,
            "num_classes": 2,
            "class_weights": (0.5, 2.0),
        },
        # As built, without the weights.
        {
            "backbone": "resnet18",
            "weights": "imagenet",
            "trainable_layers": 1,
            "input_scale": 0.0,
            "min_size_px": 64,
            "version": "v2",
            "num_classes": 5,
        },
    ],
}
"""Settings beside the small ones with which each model must conform, by its name.

Every value of a setting is there, several in one variant where they do not depend on one another.
"""

CASES = [(name, variant) for name in SETTINGS.built_in_names() for variant in VARIANTS[name]]


def runs_other_code(variant):
    """Whether a compiler, which takes seconds for each, sees more than the same layers in other numbers."""
    if "resnet18" in (variant.get("encoder"), variant.get("backbone")):
        return "weights" in variant  # one of each model is enough
    return (
        bool({"input_scale", "deep_supervision", "encoder"} & variant.keys())
        and "base_channels" not in variant
    )


COMPILED = [(name, variant) for name, variant in CASES if runs_other_code(variant)]


def case_name(case: tuple[str, dict[str, object]]) -> str:
    """Return a variant's name in pytest's lines."""
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


SUBJECTS = {case_name(case): Subject(SETTINGS[case[0]](**{**SMALL[case[0]], **case[1]})) for case in CASES}
CHECKS = [check for check in model_checks() if check not in (check_any_size, check_compiles)]


@pytest.mark.parametrize("case", SUBJECTS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, case):
    check(SUBJECTS[case])


@pytest.mark.parametrize("case", [*map(case_name, COMPILED)])
def test_compiles(case):
    check_compiles(SUBJECTS[case])


@pytest.mark.parametrize("case", SUBJECTS)
def test_any_size_any_batch(case):
    """The two hardest sizes for every variant, the others in turn."""
    others = SIZES[2:]
    check_any_size(SUBJECTS[case], sizes=(*SIZES[:2], others[list(SUBJECTS).index(case) % len(others)]))


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
    # A step of a detector takes as long as ten of a U-Net.
    num_images = 4 if name == "unet" else 2
    check_learns(subject, lr=lr, num_steps=num_steps, touching=tells_apart, num_images=num_images)
