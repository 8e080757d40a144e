"""Plug-ins as modules: found, imported once a process, and told apart by what is in their files."""

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from searcher.exceptions import UserError

__all__ = [
    "BUILT_IN",
    "GROUP",
    "LOCK",
    "Plugin",
    "PluginError",
    "broken_plugins",
    "load_installed",
    "load_plugins",
    "loaded_plugins",
    "origin_of_module",
    "plugin_of",
    "plugin_sources",
    "python_digest",
]

GROUP = "searcher.plugins"
"""Group of the entry points by which an installed distribution names its plug-in modules."""
BUILT_IN = "searcher"
"""Origin of the parts that come with this package."""
LOCK = threading.RLock()
"""Held while a plug-in is imported or a part is registered."""


class PluginError(UserError):
    """A plug-in cannot be imported, or a part clashes with another one or is missing."""


@dataclass(frozen=True)
class Plugin:
    """An imported module that registers parts."""

    origin: str
    """What a person calls it: the distribution and its version, the module's name, or the file as it was named."""
    module: str
    """Name of the module."""
    source: str
    """What `load_plugins` imports it by, from any folder: the module's name, or the absolute path of its file."""
    distribution: str = ""
    """Name of the distribution that brings it; empty for a file or a module outside any."""
    version: str = ""
    """The distribution's version."""
    file: Path | None = None
    """The module's file; of a package its `__init__.py`."""
    sha256: str = ""
    """Digest of its Python files as they were when it was imported; see `python_digest`."""


_PLUGINS: dict[str, Plugin] = {}
"""Plug-ins by `Plugin.source`."""
_BROKEN: list[PluginError] = []
_installed_done = False
_importing: ContextVar[str] = ContextVar("importing", default="")


def load_installed() -> None:
    """Import the plug-ins of all installed distributions, once in a process.

    A plug-in that fails to import does not stop the others; its error is part of the message about an unknown part.
    """
    global _installed_done
    with LOCK:
        if _installed_done:
            return
        _installed_done = True
        import importlib.metadata  # which imports what reads mail

        for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda each: each.value):
            version = entry.dist.version if entry.dist else ""
            distribution = entry.dist.name if entry.dist else ""
            try:
                _load_module(entry.module, distribution, version)
            except PluginError as error:
                _BROKEN.append(error)


def load_plugins(names: Iterable[str], *, folder: Path) -> list[Plugin]:
    """Import plug-ins by name or path, and return them.

    Args:
        names: The dotted name of a module, or a path: a text that ends in `.py` or contains a slash. A folder is
            imported as a package.
        folder: Folder to which relative paths are relative.

    Raises:
        PluginError: A plug-in cannot be imported, or registers a name that another has; one line for each.
    """
    found, problems = [], []
    for name in names:
        try:
            found.append(_load_named(name, folder))
        except PluginError as error:
            problems += error.problems
    if problems:
        raise PluginError(*problems)
    return found


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that were imported in this process, in the order of import."""
    return tuple(_PLUGINS.values())


def broken_plugins() -> tuple[PluginError, ...]:
    """Return the errors of installed plug-ins that could not be imported."""
    return tuple(_BROKEN)


def plugin_sources() -> tuple[str, ...]:
    """Return the arguments for `load_plugins` with which another process gets the same parts as this one.

    Raises:
        PluginError: The script or notebook itself registered parts, which no other process can import.
    """
    if "__main__" in _PLUGINS:
        raise PluginError(
            "plugins: must be in a file of their own, which workers import too, got parts that this script or notebook "
            "registers itself; move them to a file and name that in plugins"
        )
    return tuple(_PLUGINS)


def plugin_of(origin: str) -> Plugin | None:
    """Return the plug-in with an origin; None for the origin of parts in this package."""
    return next((plugin for plugin in _PLUGINS.values() if plugin.origin == origin), None)


def origin_of_module(module: str) -> str:
    """Return the origin of parts that a module registers; the module may have been imported without `load_plugins`."""
    if importing := _importing.get():
        return importing
    if module.partition(".")[0] == BUILT_IN:
        return BUILT_IN
    with LOCK:
        for plugin in _PLUGINS.values():  # a part of a plug-in that is imported late
            if module == plugin.module or module.startswith(f"{plugin.module}."):
                return plugin.origin
        return _noted(module, module, sys.modules.get(module)).origin


def python_digest(path: Path) -> str:
    """Return the SHA-256 of a Python file, or of all Python files in a folder, as 64 hexadecimal digits.

    It covers the files' contents, and their names relative to the folder. So an installed package and a checkout have
    the same digest, even if the checkout's parts are links.
    """
    digest = hashlib.sha256()
    files = {path.name: path}
    if path.is_dir():
        files = {
            Path(folder, name).relative_to(path).as_posix(): Path(folder, name)
            for folder, _, names in os.walk(path, followlinks=True)
            for name in names
            if name.endswith(".py")
        }
    for name, file in sorted(files.items()):
        if file.is_file():  # an editor's lock is a link to nowhere
            content = file.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _load_named(name: str, folder: Path) -> Plugin:
    if not name.endswith(".py") and "/" not in name:
        return _load_module(name, *_distribution_of(name.partition(".")[0]))
    path = Path(os.path.abspath(folder / Path(name).expanduser()))  # noqa: PTH100  # resolve() follows links
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        what = "a folder without __init__.py" if path.is_dir() else "no file"
        raise PluginError(
            f"plugins: must be files, packages or installed modules, got {name!r}, which is {what} ({path}); put it "
            "there, or name another"
        )
    return _load_file(path, file, name)


def _load_module(name: str, distribution: str = "", version: str = "") -> Plugin:
    with LOCK:
        if name in _PLUGINS:
            return _PLUGINS[name]
        origin = f"{distribution} {version}".strip() or name
        with _importing_of(origin):
            module = importlib.import_module(name)
        return _noted(name, origin, module, distribution, version)


def _load_file(path: Path, file: Path, name: str) -> Plugin:
    with LOCK:
        if str(path) in _PLUGINS:
            return _PLUGINS[str(path)]
        sha256 = _digest_of_file(file)
        for plugin in _PLUGINS.values():  # a copy of one that is known, of a study that was moved, say
            if plugin.file is not None and plugin.file.name == file.name and plugin.sha256 == sha256:
                return plugin
        with _importing_of(name):
            module = _module_of(path, file)
        return _noted(str(path), name, module)


def _noted(
    source: str, origin: str, module: ModuleType | None, distribution: str = "", version: str = ""
) -> Plugin:
    path = getattr(module, "__file__", None)
    file = None if path is None else Path(path)
    name = source if module is None else module.__name__
    sha256 = "" if file is None else _digest_of_file(file)
    _PLUGINS[source] = Plugin(origin, name, source, distribution, version, file, sha256)
    return _PLUGINS[source]


def _digest_of_file(file: Path) -> str:
    return python_digest(file.parent if file.name == "__init__.py" else file)


def _module_of(path: Path, file: Path) -> ModuleType:
    """Import a file, or a folder as a package, as a module that no other's import can take for its own."""
    name = f"searcher_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    inside = [str(path)] if file != path else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugins: must be Python files, got {path}; name another")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _distribution_of(package: str) -> tuple[str, str]:
    import importlib.metadata

    for name in importlib.metadata.packages_distributions().get(package, []):
        return name, importlib.metadata.version(name)
    return "", ""


@contextmanager
def _importing_of(origin: str) -> Iterator[None]:
    """Let parts be registered as those of a plug-in.

    Raises:
        PluginError: What its import raised, in one line.
    """
    token = _importing.set(origin)
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        what = " ".join(str(error).split()) or "no reason given"
        raise PluginError(f"plugins: cannot import {origin}: {type(error).__name__}: {what}") from error
    finally:
        _importing.reset(token)
