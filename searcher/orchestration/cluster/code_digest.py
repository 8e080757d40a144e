"""The digest of the code that a process runs. A version number alone cannot distinguish two checkouts."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from searcher.plugins import load_plugins, python_digest

__all__ = ["SHOWN_DIGITS", "code_digest"]

SHOWN_DIGITS = 12
"""Of a digest, in a message."""
_PACKAGE = Path(__file__).parents[2]
"""The folder `searcher`."""


def code_digest(plugins: Sequence[str] = ()) -> str:
    """Return the digest of the code of this process and of some plug-ins, 64 hexadecimal digits.

    It covers the files that were imported, in any folder. Our own files are read only at the first call.

    Args:
        plugins: The plug-ins that the driver has imported, see `plugin_sources`.

    Raises:
        PluginError: A plug-in cannot be imported here.
    """
    if not plugins:
        return _own_digest()
    digests = [plugin.sha256 for plugin in load_plugins(plugins, folder=Path("/"))]
    return hashlib.sha256("\0".join([_own_digest(), *digests]).encode()).hexdigest()


@cache
def _own_digest() -> str:
    return python_digest(_PACKAGE)
