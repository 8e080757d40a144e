"""Models by name: a model registers itself, settings build it."""

import importlib
import inspect
from collections.abc import Callable
from typing import TypeVar

from searcher.models.base import SegmentationModel
from searcher.models.settings import SETTINGS, ModelSettings, PartsSettings, PostprocessSettings
from searcher.models.settings_base import with_sizes
from searcher.plugins import PluginError

__all__ = ["build_model", "fetch_pretrained", "names", "register", "settings_of"]

_Model = TypeVar("_Model", bound=type[SegmentationModel])

_CLASSES: dict[type[ModelSettings], type[SegmentationModel]] = {}
"""The model that each class of settings is for."""


def register(name: str, settings: type[ModelSettings]) -> Callable[[_Model], _Model]:
    """Return a class decorator that registers a model under a name, for this package or a plug-in.

    The class's keyword arguments are the fields of the settings (except `name`) and `postprocess`. A model of this
    package is in the module `searcher.models.<name>`, which is imported when the model is first built.

    Args:
        name: Name of the model in study files.
        settings: Class of the model's parameters.

    Raises:
        PluginError: Another model has the name, or the settings do not follow the rules of `ModelSettings`.
    """
    _check(name, settings)

    def add(model: _Model) -> _Model:
        _check_takes_options(name, settings, model)
        SETTINGS.register(name, settings)
        _CLASSES[settings] = model
        return model

    return add


def names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    return tuple(sorted(SETTINGS.names()))


def build_model(settings: ModelSettings, postprocess: PostprocessSettings) -> SegmentationModel:
    """Return a new model with fresh weights, on the CPU, in train mode.

    The weights are drawn from torch's global generator; pretrained ones are loaded by
    `SegmentationModel.load_pretrained`. Sizes that are left to the data get their defaults here, which does not affect
    the weights. Training fills them in before it builds a model, and checkpoints and bundles hold the filled-in sizes.

    Args:
        settings: The model's name and parameters.
        postprocess: How its output becomes instances.

    Raises:
        ValueError: No model has that name; the message lists the known ones.
    """
    settings, postprocess = with_sizes(settings, None), with_sizes(postprocess, None)
    values = settings.model_dump(exclude={"name", "class_names"})
    return _class_of(settings)(**values, postprocess=postprocess)


def settings_of(model: type[SegmentationModel]) -> type[ModelSettings]:
    """Return the class of settings with which a model's class was registered.

    Raises:
        PluginError: The class was not registered.
    """
    for settings, each in _CLASSES.items():
        if each is model:
            return settings
    raise PluginError(
        f"{model.__name__}: must be a registered model, got a class that is none; decorate it with register"
    )


def fetch_pretrained(settings: ModelSettings) -> None:
    """Download the pretrained weights that a model's settings name, if they are not on this machine.

    Args:
        settings: The model's name and parameters; without pretrained weights, nothing happens.

    Raises:
        ValueError: No model has that name; the message lists the known ones.
        WeightsError: The weights cannot be read or downloaded.
    """
    _class_of(settings).fetch_pretrained(settings)


def _class_of(settings: ModelSettings) -> type[SegmentationModel]:
    if not SETTINGS.known(settings.name):
        raise ValueError(f"model.name must be one of {', '.join(names())}, got {settings.name!r}")
    if type(settings) not in _CLASSES:
        importlib.import_module(f"searcher.models.{settings.name}")
    return _CLASSES[type(settings)]


def _check(name: str, settings: type[ModelSettings]) -> None:
    """Check what studies rely on: a name of its own, a default for every key, no key that is refused later."""
    if not issubclass(settings, ModelSettings):
        raise PluginError(
            f"model {name!r}: its settings must derive from ModelSettings, got {settings.__name__}"
        )
    lacking = [key for key, field in settings.model_fields.items() if field.is_required()]
    if lacking:
        raise PluginError(
            f"model {name!r}: every setting must have a default, got none for {', '.join(lacking)}"
        )
    own = settings.model_fields["name"].default if "name" in settings.model_fields else None
    if own != name:
        raise PluginError(
            f"model {name!r}: its settings must have the field name: Literal[{name!r}] = {name!r}, got {own!r}"
        )
    if settings.model_config.get("extra") != "forbid":
        raise PluginError(
            f"model {name!r}: its settings must refuse unknown keys; leave model_config as it is"
        )
    if issubclass(settings, PartsSettings):
        fields = [*settings.model_fields]
        late = [kind for kind in settings.kinds() if "options" not in fields[fields.index(kind) :]]
        if late or "options" not in fields:
            raise PluginError(
                f"model {name!r}: its settings must have the field options: PartOptions = Field(default={{}}, "
                "validate_default=True) behind those that name parts, as PartsSettings says; move it there"
            )


def _check_takes_options(name: str, settings: type[ModelSettings], model: type[SegmentationModel]) -> None:
    taken = inspect.signature(model).parameters.values()
    takes = any(each.name == "options" or each.kind is each.VAR_KEYWORD for each in taken)
    if issubclass(settings, PartsSettings) and not takes:
        raise PluginError(
            f"model {name!r}: its network must take the settings of its parts; add the argument options=None"
        )
