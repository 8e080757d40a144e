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
    """Return a decorator that registers an augmentation preset under a name, for a plug-in.

    The decorated class or function returns an `Augmentation`. It takes its own options, and those of `crop_px`,
    `strength` and `is_photograph` (see `build_augmentation`) that its signature has.

    Args:
        name: Name of the preset in study files.
        options: Class of the preset's own settings, derived from `searcher.parts.Section`: the keys of
            `augment.options`.
    """

    def register(build: F) -> F:
        AUGMENTATIONS.register(name, Part(build, options))
        return build

    return register
