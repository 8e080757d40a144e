"""What the parameters of every model have in common, ours and those of plug-ins. Imports no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from searcher.models.parts import KINDS, LOSSES, loss_names
from searcher.parts import Options, Section, checked_options_by_part, hash_of

__all__ = [
    "MAX_CHANNELS",
    "ModelSettings",
    "ObjectStatistics",
    "PartOptions",
    "PartsSettings",
    "names_losses",
]

PartOptions = dict[str, Options]
"""Settings that parts bring with them, by the part's name: `{"tversky": {"alpha": 0.3}}`."""

MAX_CHANNELS = 64
"""Most channels of an image that a network takes."""


class ObjectStatistics(NamedTuple):
    """How large the objects of a data set are, and how many lie in one image.

    The side of an object is that of the square with the area of its bounding box.
    """

    small_px: float
    """Side of a small object: 5% have a smaller one."""
    large_px: float
    """Side of a large object: 2% have a larger one."""
    aspect: float
    """Longer over shorter side of an elongated object's bounding box: 20% are more elongated."""
    max_per_image: int
    """Most objects in one image."""


class ModelSettings(Section):
    """Parameters of a model: a plug-in derives its own from this class.

    A subclass has a field `name` whose only value is the model's name, and a default for every field. Its numbers have
    bounds (`Field(default=.., ge=.., le=..)`): studies search within them. Some fields may be left to the data.
    """

    pretrained_keys: ClassVar[tuple[str, ...]] = ()
    """The parameters that decide which pretrained weights training begins from."""
    has_maps: ClassVar[bool] = True
    """Whether the model is a `DenseModel`, whose maps of several views can be averaged."""
    small: ClassVar[Mapping[str, Any]] = {}
    """Parameters that make the model small enough to train in a test."""

    if TYPE_CHECKING:
        name: str = ""
        """Which model this is."""
    channels: int = Field(default=3, ge=1, le=MAX_CHANNELS)
    """Channels of the images. Not to be chosen: it is filled in from the data that are trained on."""

    @model_serializer(mode="wrap")
    def _without_what_is_as_before(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain values as they were written before there were `channels` other than 3, and `options`."""
        values: dict[str, Any] = as_usual(self)
        if values.get("channels") == 3:
            del values["channels"]
        if values.get("options") == {}:
            del values["options"]
        return values

    @property
    def grows_seeds(self) -> bool:
        """Whether instances grow from seeds, which `postprocess.min_seed_area_px` may take away."""
        return False

    @property
    def border_keys(self) -> tuple[str, ...]:
        """The parameters that are widths in pixels which an object loses on each side before it is found."""
        return ()

    @property
    def wants_objects(self) -> bool:
        """Whether a parameter is left to the data."""
        return False

    def with_objects(self, objects: ObjectStatistics) -> Self:
        """Return the settings with what was left to the data filled in. Such settings leave nothing to it."""
        del objects
        return self


class PartsSettings(ModelSettings):
    """Parameters of a model that is put together from parts which may have settings of their own.

    A subclass has fields that name its parts (`encoder`, `backbone`, `head`, `loss`), and after them
    `options: PartOptions = Field(default={}, validate_default=True)`. Its network takes `options`, too.
    """

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """Return the registry of each field that names parts."""
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
    """Return a setting that joins losses by `+`; for settings of a plug-in's model too.

    Raises:
        PydanticCustomError: One is unknown, or named twice.
    """
    if isinstance(value, str) and loss_names(value):
        return value
    raise PydanticCustomError(
        "losses", "must be losses joined by '+', each once, of {known}", {"known": ", ".join(LOSSES.names())}
    )
