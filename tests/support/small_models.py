"""Settings that make each registered model small enough to train in a test; a new model needs its own here."""

from typing import Any

__all__ = ["SMALL_MODELS"]

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "unet": {"base_channels": 4, "depth": 2},
    "mask_rcnn": {
        "backbone": "resnet18",
        "fpn_channels": 32,
        "box_layer": 64,
        "mask_layer": 32,
        "rpn_proposals": 50,
        "rpn_samples": 64,
        "box_samples": 32,
    },
}
"""By the model's name."""
