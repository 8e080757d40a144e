"""Parts that a configuration names: how one is built, and the settings that it brings with it.

A registry of `searcher.plugins` keeps the parts of a kind by name. A section of a configuration names one, and its
table `options` holds the settings that only this part has. Imports no torch.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from searcher.plugins import PluginError, Registry, broken_plugins

__all__ = [
    "Options",
    "Part",
    "PartSection",
    "Section",
    "checked_options",
    "checked_options_by_part",
    "hash_of",
    "one_of",
    "own_options",
]

T = TypeVar("T")

Options = dict[str, bool | int | float | str]
"""The settings that a part brings with it, by name."""


class Section(BaseModel):
    """Base class of all settings: frozen and typed. Unknown keys and wrong types are errors, reported together.

    Every number is finite and has an upper limit, far above sensible values, so that a digit too many is an error
    instead of filling the memory or taking years.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part that a configuration can name: the function or class that builds it, and its own settings.

    Raises:
        PluginError: The settings allow unknown keys, or one of them has no default or is no plain value.
    """

    build: Callable[..., T]
    """A class or a function. It is given those arguments of its kind that its signature has, and its own settings."""
    options: type[BaseModel] | None = None
    """The part's own settings, derived from `Section`; None for a part without."""

    def __post_init__(self) -> None:
        # By which a registry finds out whose part it is.
        object.__setattr__(self, "__module__", getattr(self.build, "__module__", None) or __name__)
        if self.options is None:
            return
        name = self.options.__name__
        if self.options.model_config.get("extra") != "forbid":
            raise PluginError(f"{name}: must refuse unknown keys; derive it from searcher.parts.Section")
        try:
            values = self.options().model_dump()
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise PluginError(f"{name}.{key}: must have a valid default, got none; give it one") from None
        for key, value in values.items():
            if not isinstance(value, bool | int | float | str):
                raise PluginError(
                    f"{name}.{key}: must be a number, a text or a truth value, got {type(value).__name__}"
                )

    def made(self, *arguments: Any, options: Mapping[str, Any] | None = None, **known: Any) -> T:
        """Build the part, and return it.

        Args:
            arguments: Positional arguments for the part's function.
            options: Checked settings of the part; missing ones have their defaults. None for all defaults.
            known: Arguments for parts of this kind, by name. Only those in the function's signature are passed, or all
                if it takes any.
        """
        taken = inspect.signature(self.build).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in taken.values())
        own = {} if self.options is None else self.options().model_dump()
        return self.build(
            *arguments,
            **{name: value for name, value in known.items() if takes_any or name in taken},
            **{**own, **(options or {})},
        )


def one_of(*registries: Registry[Any], ours: Sequence[str] | None = None) -> BeforeValidator:
    """Return a validator that checks that a value is the name of a part in one of the registries.

    Args:
        registries: The registries.
        ours: Names that are allowed instead of those of this package's parts; None to allow these.
    """
    unwanted = set() if ours is None else {name for each in registries for name in each.built_in_names()}

    def check(value: Any) -> str:
        if isinstance(value, str) and (
            value in (ours or ())
            or (value not in unwanted and any(registry.known(value) for registry in registries))
        ):
            return value
        known = [name for registry in registries for name in registry.names() if name not in unwanted]
        names = [repr(name) for name in (*(ours or ()), *known)]
        expected = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        why = "".join(f"; {problem}" for problem in broken_plugins())
        raise PydanticCustomError(
            "literal_error", "Input should be {expected}", {"expected": expected, "why": why}
        )

    return BeforeValidator(check)


def checked_options(registry: Registry[Any], name: str, given: Mapping[str, Any]) -> Options:
    """Return all settings of a part after validation, with defaults for those that are not given.

    Args:
        registry: Registry of the part's kind.
        name: Name of the part.
        given: The given settings, by key.

    Raises:
        ValueError: Settings are given, but the part has none.
        ValidationError: A setting is unknown or out of range.
    """
    settings = None if name in registry.built_in_names() else registry[name].options
    if settings is not None:
        return settings.model_validate(dict(given)).model_dump()  # type: ignore[no-any-return]
    if given:
        raise ValueError(
            f"must be empty for {registry.key} = {name!r}, which has no options of its own, "
            f"got {', '.join(sorted(given))}; remove them"
        )
    return {}


def own_options(registry: Registry[Any], *, load: bool = True) -> dict[str, type[BaseModel]]:
    """Return the settings class of each part that has settings of its own, by the part's name.

    This package's parts have none: their settings are keys of the section itself.

    Args:
        registry: The registry of the parts.
        load: Whether to import the installed plug-ins first. False while a module of this package is imported, because
            plug-ins may need it.
    """
    names = registry.names() if load else registry.names_so_far()
    found = {name: registry[name].options for name in names if name not in registry.built_in_names()}
    return {name: options for name, options in found.items() if options is not None}


def checked_options_by_part(
    kinds: Mapping[str, Registry[Any]], named: Mapping[str, str], given: Mapping[str, Options]
) -> dict[str, Options]:
    """Return all settings of the named parts after validation, by the part's name, with defaults for missing ones.

    Settings of parts that are not named are validated, too, and left out.

    Args:
        kinds: The registry for each field that names parts.
        named: The value of each such field; it may be several names joined by `+`.
        given: The given settings, by the part's name.

    Raises:
        ValidationError: Settings are unknown or out of range, or there is no part with that name and settings; all at
            once.
    """
    own = _own_of_kinds(kinds, load=False)
    if given.keys() - own.keys():
        own = _own_of_kinds(kinds, load=True)
    wanted = {name for value in named.values() for name in value.split("+")} & own.keys()
    known = tuple(own.items())
    nobodys = tuple(name for name in given if name not in own)
    if not own and not nobodys:
        return {}
    told = _adapter(known, nobodys).validate_python({**{name: {} for name in wanted}, **given})
    return {name: told[name].model_dump() for name in sorted(wanted)}


def _own_of_kinds(kinds: Mapping[str, Registry[Any]], *, load: bool) -> dict[str, type[BaseModel]]:
    return {
        name: options for each in kinds.values() for name, options in own_options(each, load=load).items()
    }


@lru_cache(maxsize=64)
def _adapter(known: tuple[tuple[str, type[BaseModel]], ...], nobodys: tuple[str, ...]) -> TypeAdapter[Any]:
    """Return what checks a table of settings by the part's name; pydantic then reports all that is wrong at once."""

    def refuse(_: Any) -> None:
        names = ", ".join(sorted(name for name, _ in known))
        rule = (
            f"must be settings of {names}" if names else "must not be given: no part has settings of its own"
        )
        raise PydanticCustomError("no_such_part", "{rule}", {"rule": rule})

    fields: dict[str, Any] = dict(known) | {name: Annotated[Any, BeforeValidator(refuse)] for name in nobodys}
    return TypeAdapter(TypedDict("options", fields, total=False))  # type: ignore[operator]


class PartSection(Section):
    """Base class of sections that name a part and hold its options.

    A subclass has the field that names the part, and after it `options: Options = Field(default={},
    validate_default=True)`.
    """

    registry: ClassVar[Registry[Any]]
    named_by: ClassVar[str] = "name"
    """The field that names the part."""
    unsaid: ClassVar[Sequence[str]] = ("options",)
    """Keys that are left out of plain values where they are empty, so that digests stay what they were."""

    @field_validator("options", check_fields=False)
    @classmethod
    def _options_are_the_parts(cls, options: Options, info: ValidationInfo) -> Options:
        if cls.named_by not in info.data:  # which is a problem already
            return options
        return checked_options(cls.registry, info.data[cls.named_by], options)

    @model_serializer(mode="wrap")
    def _without_empty_keys(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = as_usual(self)
        return {key: value for key, value in values.items() if key not in self.unsaid or value}

    def __hash__(self) -> int:
        """Return a hash of all values; a table of options has none of its own."""
        return hash_of(self)


def hash_of(section: BaseModel) -> int:
    """Return a hash of all values of a section, including dictionaries, which have none themselves."""
    return hash(tuple(map(_frozen, vars(section).values())))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(each)) for key, each in value.items()))
    return value
