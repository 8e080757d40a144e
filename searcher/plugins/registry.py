"""The parts of one kind, by name."""

import importlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from searcher.plugins.loading import (
    BUILT_IN,
    LOCK,
    PluginError,
    broken_plugins,
    load_installed,
    origin_of_module,
)

__all__ = ["Registry", "registries"]

T = TypeVar("T")


class Registry(Generic[T]):
    """The registered parts of one kind, such as models, by name.

    Args:
        kind: Name of the kind in messages, such as "model".
        key: Key of a study file that names a part of this kind, such as "model.name".
        built_in: For each part of this package, its name and its place "module:attribute". The module is imported when
            the part is first used.
    """

    def __init__(self, kind: str, *, key: str, built_in: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.key = key
        self._built_in = dict(built_in or {})
        self._parts: dict[str, T] = {}
        self._origins = dict.fromkeys(self._built_in, BUILT_IN)
        _REGISTRIES.append(self)

    def register(self, name: str, part: T) -> T:
        """Register a part under a name, and return the part.

        Raises:
            PluginError: Another part has the name.
        """
        origin = origin_of_module(getattr(part, "__module__", "") or BUILT_IN)
        with LOCK:
            if name in self._origins and not (origin == BUILT_IN and name in self._built_in):
                raise PluginError(
                    f"{origin}: {self.kind} {name!r} is registered by {self._origins[name]} already; rename one"
                )
            self._parts[name] = part
            self._origins[name] = origin
        return part

    def known(self, name: str) -> bool:
        """Return whether a name is registered, if necessary after importing the installed plug-ins."""
        if name not in self._origins:
            load_installed()
        return name in self._origins

    def __getitem__(self, name: str) -> T:
        """Return the part of a name.

        Raises:
            PluginError: Nobody knows it; the message lists the known names.
        """
        if not self.known(name):
            broken = "".join(f"; {error}" for error in broken_plugins())
            raise PluginError(f"{self.key}: must be one of {', '.join(self.names())}, got {name!r}{broken}")
        if name not in self._parts:
            module, _, attribute = self._built_in[name].partition(":")
            part = getattr(importlib.import_module(module), attribute)
            self._parts.setdefault(name, part)
        return self._parts[name]

    def names(self) -> tuple[str, ...]:
        """Return all registered names: those of this package in their order, then those of plug-ins, sorted."""
        load_installed()
        return self.names_so_far()

    def names_so_far(self) -> tuple[str, ...]:
        """Return the registered names without importing the installed plug-ins."""
        return (*self._built_in, *sorted(self._origins.keys() - self._built_in.keys()))

    def built_in_names(self) -> tuple[str, ...]:
        """Return the names of the parts in this package."""
        return tuple(self._built_in)

    def origin(self, name: str) -> str:
        """Return the origin of a registered part: "searcher", or `Plugin.origin`."""
        return self._origins[name]


_REGISTRIES: list["Registry[Any]"] = []


def parts_named(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of plug-ins that a configuration uses: a mapping from "KEY=NAME" to the plug-in's origin.

    Names that no registry knows are left out.

    Args:
        values: The configuration by dotted key. A value may be several names joined by `+`.
    """
    found = {}
    for registry in _REGISTRIES:
        value = values.get(registry.key)
        for name in value.split("+") if isinstance(value, str) else []:
            if registry.known(name) and registry.origin(name) != BUILT_IN:
                found[f"{registry.key}={name}"] = registry.origin(name)
    return found


def is_known(part: str) -> bool:
    """Return whether a part "KEY=NAME", from `parts_named`, is registered; True if no registry has the key."""
    key, _, name = part.partition("=")
    return all(registry.known(name) for registry in _REGISTRIES if registry.key == key)


def registries() -> tuple["Registry[Any]", ...]:
    """Return the registries of all kinds whose modules were imported."""
    return tuple(_REGISTRIES)
