"""Parts by name, of ours or of a plug-in: models, heads, losses, samplers and whatever else a study file can name.

A room keeps one `Registry` for each kind of part. A plug-in is a module that registers its parts when it is imported,
by the same decorators as ours. Modules come from installed distributions (entry points of the group
`searcher.plugins`), which are imported when a name is asked for that nobody here knows, and from a study file's
`plugins = ["my_package", "./my_model.py"]`, which `load_plugins` imports. Imports no torch.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from searcher.exceptions import UserError

__all__ = [
    "GROUP",
    "Plugin",
    "PluginError",
    "Registry",
    "load_installed",
    "load_plugins",
    "loaded_plugins",
    "registries",
]

GROUP = "searcher.plugins"
"""Group of the entry points by which an installed distribution names its plug-in modules."""

_BUILT_IN = "searcher"
"""Origin of the parts that come with this package."""

T = TypeVar("T")


class PluginError(UserError):
    """A plug-in that cannot be imported, or a part that clashes with another or is missing."""


@dataclass(frozen=True)
class Plugin:
    """A module whose parts are known now."""

    origin: str
    """What a person calls it: the distribution and its version, the module's name, or the file's path."""
    module: str
    """Name of the module."""
    distribution: str = ""
    """Name of the distribution that brings it; empty for a file or a module outside any."""
    version: str = ""
    """The distribution's version."""
    file: Path | None = None
    """The module's file; of a package its `__init__.py`."""


_PLUGINS: dict[str, Plugin] = {}
"""Plug-ins by what they were asked for by: a module's name, or the absolute path of a file."""
_LOCK = threading.RLock()
_importing: ContextVar[str] = ContextVar("importing", default="")


class Registry(Generic[T]):
    """The parts of one kind, by name.

    Args:
        kind: What a part is called in messages, for instance "model".
        key: Key of a study file that names one, for instance "model.name".
        built_in: Name of each part of ours and the "module:attribute" that is it. The module is imported when the
            part is first asked for.
    """

    def __init__(self, kind: str, *, key: str, built_in: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.key = key
        self._built_in = dict(built_in or {})
        self._parts: dict[str, T] = {}
        self._origins = dict.fromkeys(self._built_in, _BUILT_IN)
        _REGISTRIES.append(self)

    def register(self, name: str, part: T) -> T:
        """Make a part known under a name, and return it.

        Raises:
            PluginError: Another part has the name.
        """
        origin = _importing.get() or _BUILT_IN
        with _LOCK:
            if name in self._origins and not (origin == _BUILT_IN and name in self._built_in):
                raise PluginError(
                    f"{origin}: {self.kind} {name!r} is registered by {self._origins[name]} already; rename one"
                )
            self._parts[name] = part
            self._origins[name] = origin
        return part

    def known(self, name: str) -> bool:
        """Say whether a name is known, if need be after importing the installed plug-ins."""
        if name not in self._origins:
            load_installed()
        return name in self._origins

    def __getitem__(self, name: str) -> T:
        """Return the part of a name.

        Raises:
            PluginError: Nobody knows it; the message lists the known names.
        """
        if not self.known(name):
            broken = "".join(f"; {error}" for error in _broken)
            raise PluginError(f"{self.key}: must be one of {', '.join(self.names())}, got {name!r}{broken}")
        if name not in self._parts:
            module, _, attribute = self._built_in[name].partition(":")
            part = getattr(importlib.import_module(module), attribute)
            self._parts.setdefault(name, part)
        return self._parts[name]

    def names(self) -> tuple[str, ...]:
        """Return all known names, ours first in their order, then those of plug-ins, sorted."""
        load_installed()
        return (*self._built_in, *sorted(self._origins.keys() - self._built_in.keys()))

    def built_in_names(self) -> tuple[str, ...]:
        """Return the names that come with this package."""
        return tuple(self._built_in)

    def origin(self, name: str) -> str:
        """Return where a known part comes from: "searcher", or `Plugin.origin`."""
        return self._origins[name]


_REGISTRIES: list["Registry[Any]"] = []
_broken: list[PluginError] = []
_installed_done = False


def registries() -> tuple["Registry[Any]", ...]:
    """Return the registries of all kinds whose rooms were imported."""
    return tuple(_REGISTRIES)


def load_installed() -> None:
    """Import the plug-ins of all installed distributions, once a process.

    One that cannot be imported does not stop the others: who asks for one of its parts is told why.
    """
    global _installed_done
    with _LOCK:
        if _installed_done:
            return
        _installed_done = True
        for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda each: each.value):
            version = entry.dist.version if entry.dist else ""
            distribution = entry.dist.name if entry.dist else ""
            try:
                _load(entry.module, f"{distribution} {version}".strip(), entry.module, distribution, version)
            except PluginError as error:
                _broken.append(error)


def load_plugins(names: Iterable[str], *, folder: Path) -> list[Plugin]:
    """Import plug-ins that a study file or a caller names, and return them.

    Args:
        names: A module's dotted name, or a path that ends in `.py`.
        folder: What relative paths are relative to.

    Raises:
        PluginError: One cannot be imported, or registers a name that another has.
    """
    return [_load_named(name, folder) for name in names]


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that were imported in this process, in their order."""
    return tuple(_PLUGINS.values())


def _load_named(name: str, folder: Path) -> Plugin:
    if not name.endswith(".py"):
        distribution, version = _distribution_of(name.partition(".")[0])
        return _load(name, f"{distribution} {version}".strip() or name, name, distribution, version)
    path = (folder / name).absolute()
    if not path.is_file():
        raise PluginError(
            f"plugins: must be files or installed modules, got {name!r}, which is no file ({path})"
        )
    return _load(str(path), name, path)


def _load(key: str, origin: str, source: str | Path, distribution: str = "", version: str = "") -> Plugin:
    with _LOCK:
        if key in _PLUGINS:
            return _PLUGINS[key]
        try:
            with _named(origin):
                module = importlib.import_module(source) if isinstance(source, str) else _module_of(source)
        except PluginError:
            raise
        except Exception as error:
            what = " ".join(str(error).split()) or "no reason given"
            raise PluginError(f"plugins: cannot import {origin}: {type(error).__name__}: {what}") from error
        file = Path(module.__file__) if module.__file__ else None
        _PLUGINS[key] = Plugin(origin, module.__name__, distribution, version, file)
        return _PLUGINS[key]


def _module_of(path: Path) -> ModuleType:
    """Import a file as a module that no other file's import can take for its own."""
    name = f"searcher_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugins: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _distribution_of(package: str) -> tuple[str, str]:
    for name in importlib.metadata.packages_distributions().get(package, []):
        return name, importlib.metadata.version(name)
    return "", ""


@contextmanager
def _named(origin: str) -> Iterator[None]:
    token = _importing.set(origin)
    try:
        yield
    finally:
        _importing.reset(token)
