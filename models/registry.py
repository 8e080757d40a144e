"""Models by name: a model registers itself, settings build it."""

import importlib
from collections.abc import Callable
from typing import TypeVar

from searcher.models.base import SegmentationModel
from searcher.models.settings import SETTINGS, ModelSettings, PostprocessSettings

__all__ = ["build_model", "fetch_pretrained", "names", "register"]

_Model = TypeVar("_Model", bound=type[SegmentationModel])

_CLASSES: dict[str, type[SegmentationModel]] = {}


def register(name: str, settings: type[ModelSettings]) -> Callable[[_Model], _Model]:
    """Return a class decorator that makes a model known under a name.

    The class lives in the module `models.<name>`, and its keyword arguments are the settings' fields (but for
    `name`) and `postprocess`.
    """
    assert SETTINGS.get(name) is settings, (
        f"SETTINGS of searcher.models.settings must map {name!r} to {settings}"
    )

    def add(model: _Model) -> _Model:
        assert name not in _CLASSES, f"two models are registered as {name!r}"
        _CLASSES[name] = model
        return model

    return add


def names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    return tuple(sorted(SETTINGS))


def build_model(settings: ModelSettings, postprocess: PostprocessSettings) -> SegmentationModel:
    """Return a new model with fresh weights, drawn from torch's global generator, on the CPU, in train mode.

    Pretrained weights are not loaded: see `SegmentationModel.load_pretrained`.

    Raises:
        ValueError: No model of that name; the message lists the known ones.
    """
    return _class_of(settings)(**settings.model_dump(exclude={"name"}), postprocess=postprocess)


def fetch_pretrained(settings: ModelSettings) -> None:
    """Make sure that the pretrained weights which settings name, if any, are on this machine.

    Raises:
        ValueError: No model of that name; the message lists the known ones.
        WeightsError: They cannot be had.
    """
    _class_of(settings).fetch_pretrained(settings)


def _class_of(settings: ModelSettings) -> type[SegmentationModel]:
    if settings.name not in SETTINGS:
        raise ValueError(f"model.name must be one of {', '.join(names())}, got {settings.name!r}")
    importlib.import_module(f"searcher.models.{settings.name}")
    return _CLASSES[settings.name]
