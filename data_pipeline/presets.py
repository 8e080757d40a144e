"""Augmentation presets by name. To read a study file takes no OpenCV: `augment` is imported when one is built."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from searcher.parts import Part
from searcher.plugins import Registry

if TYPE_CHECKING:
    from searcher.data_pipeline.augmentation import Augmentation

__all__ = ["AUGMENTATIONS", "PRESETS", "register_augmentation"]

PRESETS = ("none", "poster", "standard", "strong")
"""The presets that come with this package."""

AUGMENTATIONS: "Registry[Part[Augmentation]]" = Registry(
    "augmentation preset",
    key="augment.preset",
    built_in={name: f"searcher.data_pipeline.augment:{name}" for name in PRESETS},
)
"""By `augment.preset`."""

F = TypeVar("F", bound=Callable[..., Any])


def register_augmentation(name: str, *, options: type[BaseModel] | None = None) -> Callable[[F], F]:
    """Return the decorator that makes an augmentation preset known.

    Args:
        name: What a study file calls it.
        options: Its own settings, derived from `searcher.parts.Section`: the keys of `augment.options`.

    The decorated class or function takes, of `crop_px`, `strength` and `is_photograph` (see `build_augmentation`),
    those that its signature has, and its options. It returns an `Augmentation`.
    """

    def register(build: F) -> F:
        AUGMENTATIONS.register(name, Part(build, options))
        return build

    return register
