"""Plug-ins for tests: loaded by the real mechanism, forgotten afterwards."""

import copy
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from searcher import plugins
from searcher.plugins import loading

__all__ = ["plugged_in"]


@contextmanager
def plugged_in(folder: Path, body: str, name: str = "mine.py") -> Iterator[str]:
    """Load a file as a plug-in, and make its parts unknown again at the end.

    Args:
        folder: Where to write it.
        body: Its text.
        name: Its name.
    """
    (folder / name).write_text(textwrap.dedent(body))
    known = [(each, copy.copy(each._parts), copy.copy(each._origins)) for each in plugins.registries()]
    try:
        plugins.load_plugins([name], folder=folder)
        yield name
    finally:
        loading._PLUGINS.pop(str(folder / name), None)
        for registry, parts, origins in known:
            registry._parts, registry._origins = parts, origins
