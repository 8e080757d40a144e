"""What the parameters of every model have in common, ours and those of plug-ins. Imports no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from searcher.models.parts import KINDS, LOSSES, loss_names
from searcher.models.sizes import AUTO, ObjectStatistics, OrAuto, fitted_size
from searcher.parts import Options, Section, checked_options_by_part, hash_of

__all__ = [
    "MAX_CHANNELS",
    "MAX_CLASSES",
    "ModelSettings",
    "ObjectStatistics",
    "PartOptions",
    "PartsSettings",
    "auto_keys",
    "names_losses",
    "with_sizes",
]

SectionT = TypeVar("SectionT", bound=Section)

PartOptions = dict[str, Options]
"""Settings that parts bring with them, by the part's name: `{"tversky": {"alpha": 0.3}}`."""

MAX_CHANNELS = 64
"""Most channels of an image that a network takes."""
MAX_CLASSES = 64
"""Most classes of objects that a network tells apart."""
_UNSAID: Mapping[str, Any] = {
    "channels": 3,
    "options": {},
    "num_classes": 0,
    "class_names": [],
    "class_weights": [],
}
"""Values that are not written down, since they were the only ones of an older version."""


def _as_tuple(value: Any) -> Any:
    """Return a list, as JSON and TOML have it, as a tuple."""
    return tuple(value) if isinstance(value, list) else value


class ModelSettings(Section):
    """Parameters of a model: a plug-in derives its own from this class.

    A subclass has a field `name` whose only value is the model's name, and a default for every field. Its numbers have
    bounds (`Field(default=.., ge=.., le=..)`): studies search within them. A field marked with `OrAuto` may be computed
    from the data.
    """

    pretrained_keys: ClassVar[tuple[str, ...]] = ()
    """The parameters that decide which pretrained weights training begins from."""
    has_maps: ClassVar[bool] = True
    """Whether the model is a `DenseModel`, whose maps of several views can be averaged."""
    small: ClassVar[Mapping[str, Any]] = {}
    """Parameters that make the model small enough to train in a test."""
    learns_classes: ClassVar[bool] = False
    """Whether the model can say of each object which class it is of. Its network then takes `num_classes` and
    `class_weights`."""

    if TYPE_CHECKING:
        name: str = ""
        """Which model this is."""
    channels: int = Field(default=3, ge=1, le=MAX_CHANNELS)
    """Channels of the images. Not to be chosen: it is filled in from the data that are trained on."""
    num_classes: int = Field(default=0, ge=0, le=MAX_CLASSES)
    """Classes of objects that the network tells apart; 0 for none. Not to be chosen, as `channels`."""
    class_names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    """Their names, in the order of their numbers from 1. Not to be chosen, as `channels`."""
    class_weights: Annotated[tuple[float, ...], BeforeValidator(_as_tuple)] = ()
    """Weight of each class in the loss of the classes; empty for equal weights. Not to be chosen, as `channels`."""

    @model_validator(mode="after")
    def _classes_agree(self) -> Self:
        for key in ("class_names", "class_weights"):
            if len(getattr(self, key)) not in (0, self.num_classes):
                raise ValueError(
                    f"{key} must have a value for each of num_classes={self.num_classes}, got "
                    f"{len(getattr(self, key))}; leave them to the data"
                )
        if not all(weight > 0 for weight in self.class_weights):
            raise ValueError(
                f"class_weights must be above 0, got {self.class_weights}; leave them to the data"
            )
        if len({*self.class_names}) < len(self.class_names):
            raise ValueError(f"class_names must differ, got {self.class_names}; leave them to the data")
        if self.num_classes and not self.learns_classes:
            raise ValueError(
                f"num_classes must be 0 for name={self.name!r}, which cannot learn classes, got {self.num_classes}; "
                "set data.learn_classes=false, or take another model"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_as_before(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain values as they were written before there were other `channels` than 3, options, and classes."""
        values: dict[str, Any] = as_usual(self)
        for key, usual in _UNSAID.items():
            value = values.get(key)
            if (list(value) if isinstance(value, tuple) else value) == usual:
                values.pop(key, None)
        return values

    @property
    def grows_seeds(self) -> bool:
        """Whether instances grow from seeds. Then `postprocess.min_seed_area_px` removes small seeds."""
        return False

    @property
    def border_keys(self) -> tuple[str, ...]:
        """The names of the parameters that are the width of a border, in pixels.

        An object loses such a width on each side before it is found, so narrow objects may be lost.
        """
        return ()

    @property
    def wants_objects(self) -> bool:
        """Whether at least one parameter is to be computed from the data. A subclass may add rules of its own."""
        return bool(auto_keys(self))

    def with_objects(self, objects: ObjectStatistics) -> Self:
        """Return the settings with every open parameter computed from the data.

        Args:
            objects: Sizes and numbers of the training images' objects.
        """
        return with_sizes(self, objects)


def auto_keys(section: Section) -> tuple[str, ...]:
    """Return the names of a section's fields that are `"auto"` (held as `AUTO`), without those of nested sections.

    Args:
        section: Settings of a model or of post-processing.
    """
    return tuple(
        key for key, value in vars(section).items() if value == AUTO and has_auto(type(section), key)
    )


def has_auto(section: type[Section], key: str) -> bool:
    """Return whether the field `key` of a section may be set to `"auto"`."""
    return any(isinstance(each, OrAuto) for each in section.model_fields[key].metadata)


def with_sizes(section: SectionT, objects: ObjectStatistics | None) -> SectionT:
    """Return a copy of a section in which each `"auto"` is replaced by a size in pixels.

    Args:
        section: Settings of a model or of post-processing.
        objects: Sizes of the training images' objects; None to use the fields' defaults.
    """
    fields = type(section).model_fields
    sizes = {
        key: fields[key].default if objects is None else fitted_size(key, objects)
        for key in auto_keys(section)
    }
    return section.model_copy(update=sizes)


class PartsSettings(ModelSettings):
    """Parameters of a model that consists of parts, which may have settings of their own.

    A subclass has fields that name its parts (`encoder`, `backbone`, `head`, `loss`), and after them
    `options: PartOptions = Field(default={}, validate_default=True)`. The model's class takes `options`, too.
    """

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """Return the registry of parts for each field that names a part, such as `head`, by the field's name."""
        return {field: registry for field, registry in KINDS.items() if field in cls.model_fields}

    @field_validator("options", check_fields=False)
    @classmethod
    def _options_are_the_parts(cls, options: PartOptions, info: ValidationInfo) -> PartOptions:
        kinds = cls.kinds()
        named = {field: info.data[field] for field in kinds if field in info.data}
        return checked_options_by_part(kinds, named, options)

    def __hash__(self) -> int:
        """Return a hash of all values; a table of options has none of its own."""
        return hash_of(self)


def names_losses(value: Any) -> str:
    """Return a sum of losses such as `bce+dice` unchanged, if it is valid: a validator for a settings' field.

    Settings of a plug-in's model may use it, too.

    Args:
        value: The value of the field.

    Raises:
        PydanticCustomError: A name is unknown, or occurs twice.
    """
    if isinstance(value, str) and loss_names(value):
        return value
    raise PydanticCustomError(
        "losses", "must be losses joined by '+', each once, of {known}", {"known": ", ".join(LOSSES.names())}
    )
