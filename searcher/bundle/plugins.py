"""Which plug-ins a bundle needs, and whether they are here."""

import logging
from collections.abc import Iterable
from pathlib import Path

from searcher.bundle.manifest import MAX_NAME, PluginFacts
from searcher.escaping import one_line
from searcher.exceptions import UserError
from searcher.plugins import Plugin, is_known, loaded_plugins, parts_named, plugin_of
from searcher.study.config import TrialConfig
from searcher.study.spec import flat

__all__ = ["check_plugins", "plugins_of"]

logger = logging.getLogger(__name__)


def plugins_of(configs: Iterable[TrialConfig]) -> tuple[PluginFacts, ...]:
    """Return the plug-ins whose parts some configurations use."""
    parts: dict[str, list[str]] = {}
    for config in configs:
        for part, origin in parts_named(flat(config.to_dict())).items():
            if part not in parts.setdefault(origin, []):
                parts[origin].append(part)
    return tuple(_facts(plugin_of(origin), origin, named) for origin, named in sorted(parts.items()))


def check_plugins(path: Path, needed: Iterable[PluginFacts]) -> None:
    """Check that the plug-ins of a bundle are loaded.

    Log a warning for a plug-in whose Python files differ from those at the export.

    Args:
        path: Folder of the bundle, for messages.
        needed: The plug-ins that the bundle needs.

    Raises:
        UserError: Plug-ins are missing; one line for each.
    """
    problems = []
    for facts in needed:
        lacking = [part for part in facts.parts if not is_known(part)]
        if lacking:
            remedy = (
                "give --plugin FILE with it"
                if facts.name.endswith(".py")
                else "install it, or give --plugin FILE"
            )
            parts = one_line(", ".join(lacking))
            problems.append(
                f"{path}: must have its plug-in {_called(facts)}, got none that knows {parts}; {remedy}"
            )
        elif (here := _of(facts)) is not None and here.sha256 != facts.sha256:
            logger.warning(
                "%s: was written with the plug-in %s (%s), here is %s (%s): what it predicts may differ",
                path,
                _called(facts),
                facts.sha256[:12],
                here.origin,
                here.sha256[:12],
            )
    if problems:
        raise UserError(*problems)


def _facts(plugin: Plugin | None, origin: str, parts: list[str]) -> PluginFacts:
    if plugin is None:
        return PluginFacts(name=origin[:MAX_NAME], version="", sha256="", parts=tuple(parts))
    is_file = "/" in plugin.source
    name = Path(plugin.source).name if is_file else plugin.distribution or plugin.module
    return PluginFacts(name=name, version=plugin.version, sha256=plugin.sha256, parts=tuple(parts))


def _of(facts: PluginFacts) -> Plugin | None:
    """Return the plug-in here that has the parts."""
    names = dict(part.split("=", 1) for part in facts.parts)
    origins = set(parts_named(names).values())
    return next((plugin for plugin in loaded_plugins() if plugin.origin in origins), None)


def _called(facts: PluginFacts) -> str:
    return one_line(f"{facts.name} {facts.version}".strip())
