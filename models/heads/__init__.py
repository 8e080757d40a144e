"""What a dense network predicts for a pixel: its channels, its losses, and the way back to instances.

| head | channels | touching instances |
|---|---|---|
| `binary` | instance or background | are one |
| `contour` | background, inside, contour | grown from their insides |
| `distance` | instance or background; distance to the border | grown from their middles |
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from searcher.models.heads.base import Head, HeadOptions
from searcher.models.heads.binary import BinaryHead
from searcher.models.heads.contour import ContourHead
from searcher.models.heads.distance import DistanceHead
from searcher.models.parts import HEADS

__all__ = ["BinaryHead", "ContourHead", "DistanceHead", "Head", "HeadOptions", "build_head", "register_head"]

_Head = TypeVar("_Head", bound=type[Head])


def build_head(name: str, options: HeadOptions) -> Head:
    """Return the head of that name.

    Raises:
        ValueError: No such head; the message lists the known ones.
    """
    if not HEADS.known(name):
        raise ValueError(f"head must be one of {', '.join(HEADS.names())}, got {name!r}")
    return HEADS[name](options)


def register_head(name: str) -> Callable[[_Head], _Head]:
    """Return a class decorator that makes a `Head` known under a name, for a plug-in.

    Raises:
        PluginError: Another head has the name.
    """
    return partial(HEADS.register, name)  # type: ignore[return-value]
