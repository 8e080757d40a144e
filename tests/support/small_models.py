"""Settings that make each registered model small enough to train in a test."""

from collections.abc import Mapping
from typing import Any

from searcher.models.settings import SETTINGS

__all__ = ["SMALL_MODELS"]

SMALL_MODELS: dict[str, Mapping[str, Any]] = {
    name: SETTINGS[name].small for name in SETTINGS.built_in_names()
}
"""By the model's name."""
