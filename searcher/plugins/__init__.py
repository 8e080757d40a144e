"""Parts by name, of ours or of a plug-in: models, heads, losses, samplers and all else that a study file can name.

A room keeps one `Registry` for each kind of part. A plug-in is a module that registers its parts when it is imported,
by the same decorators as ours. Modules come from installed distributions (entry points of the group
`searcher.plugins`), which are imported when a name is requested that nobody here knows, and from a study file's
`plugins = ["my_package", "./my_model.py"]`, which `load_plugins` imports. Imports no torch.
"""

from searcher.plugins.loading import (
    BUILT_IN,
    GROUP,
    Plugin,
    PluginError,
    broken_plugins,
    load_installed,
    load_plugins,
    loaded_plugins,
    plugin_of,
    plugin_sources,
    python_digest,
)
from searcher.plugins.registry import Registry, is_known, parts_named, registries

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Plugin",
    "PluginError",
    "Registry",
    "broken_plugins",
    "is_known",
    "load_installed",
    "load_plugins",
    "loaded_plugins",
    "parts_named",
    "plugin_of",
    "plugin_sources",
    "python_digest",
    "registries",
]
