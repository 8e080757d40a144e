"""Which code a process runs: a number alone, 0.1.0, does not tell a checkout of today from last week's."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["SHOWN_DIGITS", "code_digest", "digest_of"]

_PACKAGES = ("searcher", "models", "data_pipeline")
"""What decides how a trial trains. (A study's file travels with its trials.)"""
SHOWN_DIGITS = 12
"""Of a digest, in a message."""


@cache
def code_digest() -> str:
    """Return the digest of this process's code, as its files were when it was first asked."""
    specs = [find_spec(package) for package in _PACKAGES]
    return digest_of(
        Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()
    )


def digest_of(packages: Iterable[Path]) -> str:
    """Return the SHA-256 of all Python files of packages, their names and what is in them, as 64 hexadecimal digits.

    An installed package and a checkout have the same, wherever they are; one changed line makes another.
    """
    digest = hashlib.sha256()
    for package in packages:
        files = {path.relative_to(package.parent).as_posix(): path for path in package.rglob("*.py")}
        for name, path in sorted(files.items()):
            if path.is_file():  # an editor's lock is a link to nowhere
                content = path.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
