"""The page of the Python API: every name that `import searcher` gives, and what plug-ins derive from."""

import searcher

_INTRODUCTION = """# Python API

`import searcher` gives the names of the first section. [From Python](../python.md) shows them at work. The other
sections are for [plug-ins](../plugins.md).
"""

_METRICS = ["searcher.metrics.official", "searcher.metrics.instances"]

_PLUGINS = {
    "Checks for plug-ins": ["searcher.testing"],
    "Models": ["searcher.models.base"],
    "Heads": ["searcher.models.heads.head"],
    "Losses": ["searcher.models.losses"],
}


def page() -> str:
    """Return the page; mkdocstrings fills it in."""
    names = [f"searcher.{name}" for name in searcher.__all__ if name in searcher._HOMES]
    sections = {"searcher": names + _METRICS, **_PLUGINS}
    parts = [_INTRODUCTION]
    for title, paths in sections.items():
        parts.append(f"## {title}")
        parts += [f"::: {path}" for path in paths]
    return "\n\n".join(parts)
