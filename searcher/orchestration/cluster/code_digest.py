"""Which code a process runs: a number alone, 0.1.0, does not tell a checkout of today from last week's."""

import hashlib
import os
from functools import cache
from pathlib import Path

import searcher

__all__ = ["SHOWN_DIGITS", "code_digest", "digest_of"]

SHOWN_DIGITS = 12
"""Of a digest, in a message."""


@cache
def code_digest() -> str:
    """Return the digest of this process's code, as its files were when it was first asked."""
    return digest_of(Path(searcher.__file__).parent)


def digest_of(package: Path) -> str:
    """Return the SHA-256 of all Python files of a package, their names and what is in them, as 64 hexadecimal digits.

    An installed package and a checkout, where parts of it are links, have the same digest, wherever they are. One
    changed line makes another.
    """
    digest = hashlib.sha256()
    files = {
        Path(folder, name).relative_to(package).as_posix(): Path(folder, name)
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if name.endswith(".py")
    }
    for name, path in sorted(files.items()):
        if path.is_file():  # an editor's lock is a link to nowhere
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
