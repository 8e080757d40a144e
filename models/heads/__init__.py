"""What a dense network predicts for a pixel: its channels, its losses, and the way back to instances.

| head | channels | touching instances |
|---|---|---|
| `binary` | instance or background | are one |
| `contour` | background, inside, contour | grown from their insides |
| `distance` | instance or background; distance to the border | grown from their middles |
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from searcher.models.heads.binary import BinaryHead
from searcher.models.heads.contour import ContourHead
from searcher.models.heads.distance import DistanceHead
from searcher.models.heads.head import Head, HeadOptions
from searcher.models.parts import HEADS, HeadPart, checked_name

__all__ = [
    "BINARY",
    "CONTOUR",
    "DISTANCE",
    "BinaryHead",
    "ContourHead",
    "DistanceHead",
    "Head",
    "HeadOptions",
    "build_head",
    "register_head",
]

_Head = TypeVar("_Head", bound=type[Head])


def build_head(name: str, options: HeadOptions) -> Head:
    """Return a new head.

    Args:
        name: The head's name, such as `binary`, `contour`, `distance`, or one of a plug-in.
        options: How the head is trained.

    Raises:
        ValueError: No head has that name; the message lists the known ones.
    """
    if not HEADS.known(name):
        raise ValueError(f"head must be one of {', '.join(HEADS.names())}, got {name!r}")
    made: Head = HEADS[name].made(options, options=options.of_parts.get(name))
    return made


def register_head(name: str, *, options: type[BaseModel] | None = None) -> Callable[[_Head], _Head]:
    """Return a class decorator that registers a subclass of `Head` under a name, for a plug-in.

    Args:
        name: Name of the head in study files.
        options: Class of the head's own settings, derived from `searcher.parts.Section`, each with a default. They are
            the keys of `model.options.NAME`, and keyword arguments of the head's class.

    Raises:
        PluginError: Another head has the name, or the name has a `+` or `.` in it.
    """
    checked_name("head", name, options)

    def register(head: _Head) -> _Head:
        HEADS.register(name, _part(head, options))
        return head

    return register


def _part(head: type[Head], options: type[BaseModel] | None = None) -> HeadPart:
    return HeadPart(head, options, tuple(head.postprocess_keys), tuple(head.border_keys))


BINARY, CONTOUR, DISTANCE = map(_part, (BinaryHead, ContourHead, DistanceHead))
